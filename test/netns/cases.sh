# SPDX-License-Identifier: Apache-2.0
# An application must not notice us: each case is played once on a port that stays direct
# (70xx) and once on one that an http rule sends through the proxy (80xx), over IPv4 and IPv6.
# What it can see (errnos, names, bytes) is one line of facts, the same for both. Where the two
# differ for a reason, the case says so.
. "$(dirname "$0")/lib.sh"
WORKLOADS="frontend api intruder legacy" # legacy has no IPv6
CASES=$B/test/peer/cases
export FACTOR
[ -x "$CASES" ] || {
	echo "# $CASES is missing: run make B=$B $CASES"
	exit 1
}
box_up "cases-$$"

# ---- who listens where ----

# serve NAMESPACE ADDRESS/PORT[/FLAG...]...: P stands for 70 and for 80.
serve() {
	local name=$1 spec specs=()
	shift
	for spec in "$@"; do
		specs+=("${spec/P/70}" "${spec/P/80}")
	done
	start_in "$name" "$CASES" serve "${specs[@]}"
}

# A second address is chosen as a source by nobody who does not ask for it.
second() { # NAMESPACE NUMBER
	in_ns "$1" ip addr add "10.78.0.$2/32" dev eth0
	in_ns "$1" ip addr add "fd00:78::$2/128" dev eth0 nodad preferred_lft 0
}

second frontend 21
second api 22
in_ns legacy sysctl -qw net.ipv6.conf.all.disable_ipv6=1
# 01 any address, one listener for each family; 02 both families in one; 03 the own address;
# 04 loopback; 05 TCP Fast Open; 06 SO_REUSEPORT; 07 MPTCP; 08 io_uring; 09 nobody; 10 somebody
# who comes and goes; 11 and 14 nginx (its ports come in twos); 12 for
# elsewhere alone, and 8012 for nobody; 13 SCTP; 15 on eth0 alone
serve api 0.0.0.0/P01/accept ::/P01/v6only/accept ::/P02 10.78.0.12/P03 fd00:78::12/P03 \
	127.0.0.1/P04 ::1/P04 0.0.0.0/P05/fastopen ::/P05/v6only/fastopen 0.0.0.0/P12 \
	::/P12/v6only 0.0.0.0/P01/udp ::/P01/v6only/udp
serve api ::/P06/reuseport
serve api ::/P06/reuseport
serve api ::/P07/mptcp
serve api 0.0.0.0/P15/eth0 ::/P15/v6only/eth0
serve api 0.0.0.0/P08/uring ::/P08/v6only/uring
serve legacy 0.0.0.0/P01
serve intruder 0.0.0.0/P01 ::/P01/v6only
serve outside 0.0.0.0/P01 ::/P01/v6only ::/P09
serve outside ::/P13/sctp
nginx_start api 7011 api
nginx_start api 8014 api
wait_listening api 8012
wait_listening api 8006
wait_listening legacy 8001
wait_listening intruder 8001
wait_listening outside 8009

ports() { printf "{port: \"$1%s\", protocol: TCP}, " 01 02 03 04 05 06 07 08 09 10 11 14 15; }
for app in api legacy; do
	cat <<-DOC
	apiVersion: cilium.io/v2
	kind: CiliumNetworkPolicy
	metadata: {name: $app, namespace: shop}
	spec:
	  endpointSelector: {matchLabels: {app: $app}}
	  ingress:
	  - toPorts:
	    - ports: [$(ports 70)]
	  - toPorts:
	    - ports: [$(ports 80)]
	      rules: {http: [{path: "/.*"}]}
	  - fromEndpoints: [{matchLabels: {app: elsewhere}}]
	    toPorts:
	    - ports: [{port: "7012", protocol: TCP}]
	---
	DOC
done >"$TMP/policy"
cat >>"$TMP/policy" <<'DOC'
# intruder may go outside, on one port of each kind, and nowhere else
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: intruder, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: intruder}}
  egress:
  - toEndpoints: [{matchLabels: {app: outside}}]
    toPorts:
    - ports: [{port: "7001", protocol: TCP}]
  - toEndpoints: [{matchLabels: {app: outside}}]
    toPorts:
    - ports: [{port: "8001", protocol: TCP}]
      rules: {http: [{path: "/.*"}]}
---
# of other nodes, known by their addresses
apiVersion: shunt.dev/v1
kind: Workload
metadata: {name: outside, namespace: shop}
spec: {labels: {app: outside}, addresses: ["10.78.0.99", "fd00:78::99"]}
---
apiVersion: shunt.dev/v1
kind: Workload
metadata: {name: elsewhere, namespace: shop}
spec: {labels: {app: elsewhere}, addresses: ["10.78.0.77", "fd00:78::77"]}
DOC
OPTIONS=$'slots: 16384\nslotsPerWorkload: 16384\nconnectTimeout: 2s' config_write <"$TMP/policy"

# ---- playing ----

# play NAMESPACE CASE 4|6 TARGET PORT [ARGUMENT]: the facts
play() {
	local name=$1
	shift
	in_ns "$name" "$CASES" "$@" 2>&1
}

# judge SENTENCE EXPECTED FACTS
judge() {
	case $3 in
	skip:*) skip "$1" "${3#skip: }" ;;
	*) same "$1" "$2" "$3" ;;
	esac
}

# differ SENTENCE DIRECT PROXIED NAMESPACE CASE FAMILIES TARGET NN [ARGUMENT]: the facts on
# port 70NN, and those on 80NN. In both, @ stands for the way it has to take.
differ() {
	local sentence=$1 direct=$2 proxied=$3 name=$4 case=$5 families=$6 target=$7 nn=$8 family
	shift 8
	for family in $families; do
		judge "$sentence, direct (IPv$family)" "${direct//@/direct}" \
			"$(play "$name" "$case" "$family" "$target" "70$nn" "$@")"
		judge "$sentence, proxied (IPv$family)" "${proxied//@/proxy}" \
			"$(play "$name" "$case" "$family" "$target" "80$nn" "$@")"
	done
}

# alike SENTENCE FACTS NAMESPACE CASE FAMILIES TARGET NN [ARGUMENT]
alike() {
	local sentence=$1 facts=$2
	shift 2
	differ "$sentence" "$facts" "$facts" "$@"
}

# later NAME NAMESPACE CASE 4|6 TARGET PORT: plays up to the word, in the background.
declare -A LATER
later() {
	local key=$1 name=$2 tries=$((100 * FACTOR))
	shift 2
	nsenter --net="/run/netns/$BOX-$name" "$CASES" "$@" </dev/null >"$TMP/later-$key" 2>&1 &
	LATER[$key]=$!
	PIDS+=($!)
	until grep -qs ready "$TMP/later-$key" || [ $tries -eq 0 ]; do
		tries=$((tries - 1))
		sleep 0.05
	done
}

# now NAME: gives the word; leaves the facts in $FACTS
now() {
	kill -USR1 "${LATER[$1]}"
	wait "${LATER[$1]}"
	FACTS=$(tail -n 1 "$TMP/later-$1")
}


# wait_slots N: until at most N slots are in use
wait_slots() {
	local tries=$((40 * FACTOR))
	until [ "$(metric 'shunt_egress_slots_used ')" -le "$1" ] || [ $tries -eq 0 ]; do
		tries=$((tries - 1))
		sleep 0.1
	done
	metric 'shunt_egress_slots_used '
}

# What CLIENT sees of a connection to SERVER that nobody touches.
seen() { echo "peer=$2:port sock=$1:own status=200 server=$1:own at=$2:port via=@ end=eof"; }
SEEN=$(seen frontend api)
FINE="connect=0 $SEEN"
SILENT="peer=ENOTCONN poll=outhup" # a socket that is not connected
REFUSED="connect=ECONNREFUSED error=0 $SILENT"

# ---- sockets that are older than the daemon ----

for f in 4 6; do
	later "early-70$f" frontend early $f api 7001
	later "early-80$f" frontend early $f api 8001
done
daemon_start || exit 1
for f in 4 6; do
	now early-70$f
	same "one connected before the daemon came goes on untouched, one only made is like any, direct (IPv$f)" \
		"connected: ${SEEN/@/direct} made: ${FINE/@/direct}" "$FACTS"
	now early-80$f
	same "one connected before the daemon came goes on untouched, one only made is like any, proxied (IPv$f)" \
		"connected: ${SEEN/@/direct} made: ${FINE/@/proxy}" "$FACTS"
done

# ---- ways to connect ----

alike "a blocking connect" "$FINE" frontend blocking "4 6" api 01
alike "a non-blocking connect, by poll and SO_ERROR" \
	"connect=EINPROGRESS poll=out error=0 again=0 then=EISCONN $SEEN" frontend nonblocking "4 6" api 01
alike "a socket that is IPV6_V6ONLY" "$FINE" frontend v6only 6 api 01
MAPPED="connect=0 peer=mapped-api:port sock=mapped-frontend:own status=200 server=frontend:own at=api:port via=@ end=eof"
alike "an IPv6 socket to a mapped address" "$MAPPED" frontend mapped 4 api 01
alike "io_uring connects" "$FINE" frontend uring "4 6" api 01
alike "... in a thread of the kernel's" "$FINE" frontend uring-async "4 6" api 01
alike "MPTCP to a plain listener" "$FINE" frontend mptcp "4 6" api 01
alike "MPTCP to an MPTCP listener" "$FINE" frontend mptcp 6 api 07
alike "connect() by two threads at once" "both=well $FINE" frontend threads "4 6" api 01
alike "a duplicated descriptor" "$FINE" frontend dup "4 6" api 01
alike "a socket that a child connects and its parent uses" "$FINE" frontend inherited "4 6" api 01
alike "a socket that is used in another namespace" "$FINE" frontend setns "4 6" api 01 \
	"/run/netns/$BOX-outside"
cgroup=$(cgroup_root)/$BOX-other
mkdir "$cgroup"
alike "a socket that is used in another cgroup" "$FINE" frontend cgroup "4 6" api 01 \
	"$cgroup/cgroup.procs"
recorded "... which the record names" \
	".type == \"connection\" and (.cgroup // \"\" | endswith(\"/$BOX-other\"))"
rmdir "$cgroup"
alike "UDP by connect() is not touched" \
	"connect=0 peer=api:port sock=frontend:own send=0 from=api:port server=frontend:own" \
	frontend udp-connect "4 6" api 01
alike "UDP by sendto() is not touched" "send=0 from=api:port server=frontend:own" \
	frontend udp-send "4 6" api 01

alike "TCP Fast Open by sendto()" "$FINE" frontend fastopen-sendto "4 6" api 05
alike "TCP Fast Open by option" "$FINE" frontend fastopen-connect "4 6" api 05
fastopen() { # VALUE
	local name
	for name in frontend api outside; do
		in_ns $name sysctl -qw "net.ipv4.tcp_fastopen=$1"
	done
}
fastopen $((0x607)) # data in every SYN, cookie or not
before=$(in_ns frontend nstat -asz TcpExtTCPFastOpenPassive | awk '/Passive/ {print $2}')
alike "data in the SYN by sendto()" "$FINE" frontend fastopen-sendto "4 6" api 05
alike "data in the SYN by option" "$FINE" frontend fastopen-connect "4 6" api 05
same "... the proxy took it from the SYN" 4 \
	$(($(in_ns frontend nstat -asz TcpExtTCPFastOpenPassive | awk '/Passive/ {print $2}') - before))
alike "data in the SYN from outside" "connect=0 $(seen outside api)" outside fastopen-sendto "4 6" api 05
fastopen 1

# ---- bound sockets ----

alike "bound to the own address" "$FINE" frontend bound "4 6" api 01 frontend
alike "bound to the own address and port" "$FINE bound=kept" frontend bound "4 6" api 01 frontend/20001
alike "bound to any address" "$FINE" frontend bound "4 6" api 01 any
alike "bound to any address and a port" "$FINE bound=kept" frontend bound "4 6" api 01 any/20002
alike "bound to a mapped address" "$MAPPED" frontend bound-mapped 4 api 01 frontend
alike "bound to the address, the port left to connect()" "$FINE" frontend bound-no-port "4 6" api 01 frontend
alike "bound to a second address" "connect=0 $(seen frontend-2 api)" frontend bound "4 6" api 01 frontend-2
# A connection to the proxy goes over lo, so the binding is taken away.
differ "bound to a device" "device=eth0 $FINE" "device= $FINE" frontend device "4 6" api 01 eth0

# ---- who listens ----

DUAL="connect=0 peer=api:port sock=frontend:own status=200 server=mapped-frontend:own at=mapped-api:port via=@ end=eof"
alike "a dual-stack listener sees mapped names of IPv4 clients" "$DUAL" frontend blocking 4 api 02
alike "... and IPv6 clients as they are" "$FINE" frontend blocking 6 api 02
alike "a listener on the own address" "$FINE" frontend blocking "4 6" api 03
alike "an MPTCP listener sees its clients" "$DUAL" frontend blocking 4 api 07
alike "io_uring accepts" "$FINE" frontend blocking "4 6" api 08
# The proxy dials over lo, where such a listener does not hear it.
differ "a listener on a device" "$FINE" \
	"connect=0 peer=api:port sock=frontend:own status=504 via=proxy end=eof" frontend blocking "4 6" api 15
alike "both of two SO_REUSEPORT listeners get connections" "servers=2 via=@" frontend servers 6 api 06 60
# Of a hop's own fields an HTTP proxy makes its own, and it may put the others in another order.
for f in 10.78.0.12 '[fd00:78::12]'; do
	for port in 7011 8014; do
		in_ns frontend curl -si -m $((10 * FACTOR)) "http://$f:$port/public/a" |
			grep -vE '^(Date|Connection):' | sort >"$TMP/nginx-$port"
	done
	holds "nginx answers, and names its client, alike direct and proxied ($f)" \
		grep -qE '^api GET /public/a from (10.78.0.11|fd00:78::11)$' "$TMP/nginx-8014"
	same "... head and body" "$(cat "$TMP/nginx-7011")" "$(cat "$TMP/nginx-8014")"
done

# ---- nobody listens ----

# The registry of listening ports is complete, and connect() is refused as it is direct; a
# non-blocking one at once, where the network would take its time.
REFUSED_LATER="connect=EINPROGRESS poll=outerrhup error=ECONNREFUSED"
REFUSED_ONCE="first=ECONNREFUSED error=0 $FINE"
alike "nobody listens" "$REFUSED" frontend blocking "4 6" api 09
alike "nobody listens, seen from outside" "$REFUSED" outside blocking "4 6" api 09
differ "nobody listens, without blocking" "$REFUSED_LATER" \
	"connect=ECONNREFUSED error=0 peer=ENOTCONN poll=outhup" frontend nonblocking "4 6" api 09
for f in 4 6; do
	same "the same socket may try again, direct (IPv$f)" "${REFUSED_ONCE/@/direct}" "$(play frontend retry $f api 7001 7009)"
	same "the same socket may try again, proxied (IPv$f)" "${REFUSED_ONCE/@/proxy}" "$(play frontend retry $f api 8001 8009)"
done
serve api 0.0.0.0/P10 ::/P10/v6only
listener=$STARTED
wait_listening api 8010
alike "somebody listens" "$FINE" frontend blocking "4 6" api 10
kill "$listener"
wait "$listener" 2>/dev/null
alike "... and no more" "$REFUSED" frontend blocking "4 6" api 10
serve api 0.0.0.0/P10 ::/P10/v6only
wait_listening api 8010
alike "... and again" "$FINE" frontend blocking "4 6" api 10
alike "who listens on loopback alone is not reached" "$REFUSED" frontend blocking "4 6" api 04
alike "... nor from outside" "$REFUSED" outside blocking "4 6" api 04

# ---- refused ----

for f in 4 6; do
	same "a refusal by policy is one as by nobody (IPv$f)" "$REFUSED" "$(play frontend blocking $f api 8012)"
	same "... at once where connect() does not block (IPv$f)" "$REFUSED" "$(play frontend nonblocking $f api 8012)"
	same "... from outside it is a reset (IPv$f)" "$REFUSED" "$(play outside blocking $f api 8012)"
done
alike "after a refusal the same socket may go elsewhere" "first=ECONNREFUSED error=0 $FINE" \
	frontend retry "4 6" api 01 8012
for f in 4 6; do
	for port in 15001 80; do
		same "nobody dials a slot himself (IPv$f, port $port)" "connect=EPERM error=0 $SILENT" \
			"$(play frontend blocking $f slot $port)"
	done
done
same "... nor a mapped one" "connect=EPERM error=0 $SILENT" "$(play frontend mapped 4 slot 15001)"
recorded "... and the record says why" \
	'.reason == "slot_forged" and .errno == "EPERM" and .direction == "outbound" and .comm == "cases"'
dialled=0
for name in frontend api; do
	for at in $(in_ns $name ss -Hltn | awk '$4 ~ /^(127.0.0.1|\[::1\]):/ {print $4}'); do
		case ${at##*:} in 7004 | 8004 | 8011 | 9014) continue ;; esac # api's own
		f=4
		[ "${at%:*}" = 127.0.0.1 ] || f=6
		same "who dials a listener of the daemon's is reset ($name, IPv$f)" "connect=0 reply=ECONNRESET" \
			"$(play $name request $f loopback "${at##*:}")"
		dialled=$((dialled + 1))
	done
done
told() { jq -c 'select(.reason == "origdst_unknown")' "$LOG" | wc -l; }
tries=$((40 * FACTOR))
until [ "$(told)" -ge 8 ] || [ $tries -eq 0 ]; do
	tries=$((tries - 1))
	sleep 0.05
done
same "... each time, and the record says why" "8 8" "$dialled $(told)"
in_ns outside ip -6 route add fd73:6875:6e74::/64 via fd00:78::12
in_ns outside ip route add 127.64.0.1/32 via 10.78.0.12 dev eth0 table local
for f in 4 6; do
	same "a slot cannot be reached over the wire (IPv$f)" "connect=refused" "$(play outside knock $f slot 15001)"
done
recorded "... and the record says why" \
	'.reason == "slot_forged" and .direction == "inbound" and (."src.addr" | startswith("[fd00:78::99]"))'
alike "after all that the proxy works" "$FINE" frontend blocking "4 6" api 01

# ---- sockets that are used again ----

alike "connect() on a connected socket is EISCONN" "again=EISCONN other=EISCONN $FINE" \
	frontend connected "4 6" api 01
alike "disconnected by AF_UNSPEC, connected again" "disconnect=0 peer=ENOTCONN sock=any:own $FINE" \
	frontend disconnect "4 6" api 01

# ---- what goes over a connection ----

alike "a megabyte goes there and comes back" "connect=0 reply=0 bytes=1048576 good=1048576 via=@ end=eof" \
	frontend bytes "4 6" api 01
alike "the server closes first" "connect=0 status=200 end=eof peer=api:port sock=frontend:own via=@" \
	frontend server-closes "4 6" api 01
alike "the client closes its half before the answer" \
	"connect=0 peer=api:port sock=frontend:own shutdown=0 ${SEEN#* * }" frontend shutdown-early "4 6" api 01
alike "both halves are shut" \
	"connect=0 status=200 via=@ read=0 recv=0 write=0 send=EPIPE poll=inouthup" \
	frontend shutdown-both "4 6" api 01
alike "recvmsg() names nobody" "connect=0 recvmsg=0 namelen=0 via=@" frontend recvmsg "4 6" api 01
alike "TCP_INFO" "connect=0 info=0 established=1 unacked=0 lost=0 mss=some via=@" frontend tcp-info "4 6" api 01

# ---- traffic inside a namespace is never ours ----

inside() { # SENTENCE NAMESPACE FAMILIES TARGET NN NAME [CASE]
	alike "$1" "connect=0 peer=$6:port sock=$6:own status=200 server=$6:own at=$6:port via=direct end=eof" \
		"$2" "${7:-blocking}" "$3" "$4" "$5"
}
inside "a workload reaches its own address" api "4 6" api 01 api
inside "... also one that may go nowhere there" intruder "4 6" intruder 01 intruder
inside "a workload reaches its second address" api "4 6" api-2 01 api-2
inside "... also on a port that is closed to others" api "4 6" api-2 12 api-2
alike "... also from its first" \
	"connect=0 peer=api-2:port sock=api:own status=200 server=api:own at=api-2:port via=direct end=eof" \
	api bound "4 6" api-2 01 api
alike "... and the other way round" \
	"connect=0 peer=api:port sock=api-2:own status=200 server=api-2:own at=api:port via=direct end=eof" \
	api bound "4 6" api 01 api-2
inside "a workload reaches its loopback" api "4 6" loopback 04 loopback
inside "... also one that may go nowhere there" intruder "4 6" loopback 01 loopback
inside "0.0.0.0 and :: are loopback" intruder "4 6" any 01 loopback
alike "... also mapped" \
	"connect=0 peer=mapped-loopback:port sock=mapped-loopback:own status=200 server=loopback:own at=loopback:port via=direct end=eof" \
	api mapped 4 loopback 04

# ---- other places ----

alike "to a second address" "connect=0 $(seen frontend api-2)" frontend blocking "4 6" api-2 01
for name in frontend api; do
	for device in all lo eth0; do
		in_ns $name sysctl -qw net.ipv4.conf.$device.rp_filter=1
	done
done
alike "with a strict reverse path filter" "$FINE" frontend blocking 4 api 01
alike "with a strict reverse path filter, from outside" "connect=0 $(seen outside api)" outside blocking 4 api 01

alike "without IPv6" "connect=0 $(seen legacy api)" legacy blocking 4 api 01
alike "without IPv6, an IPv6 socket to a mapped address" \
	"connect=0 peer=mapped-api:port sock=mapped-legacy:own status=200 server=legacy:own at=api:port via=@ end=eof" \
	legacy mapped 4 api 01
alike "to one without IPv6" "connect=0 $(seen frontend legacy)" frontend blocking 4 legacy 01
alike "from outside" "connect=0 $(seen outside api)" outside blocking "4 6" api 01
alike "from outside to a dual-stack listener" "${DUAL//frontend/outside}" outside blocking 4 api 02
# To another node it is dialled anew, from the sender's address; its port is a new one.
differ "to another node" "connect=0 $(seen intruder outside)" \
	"connect=0 peer=outside:port sock=intruder:own status=200 server=intruder:other at=outside:port via=@ end=eof" \
	intruder blocking "4 6" outside 01

tries=$((100 * FACTOR))
while in_ns api ip -6 addr show dev eth0 scope link | grep -q tentative && [ $tries -gt 0 ]; do
	tries=$((tries - 1))
	sleep 0.05
done
link=$(in_ns api ip -6 -o addr show dev eth0 scope link | awk '{sub(/\/.*/, "", $4); print $4; exit}')
# Such an address is dialled on its device, and our own source addresses have none: refused.
for name in frontend outside; do
	differ "to a link-local address, from $name" "connect=0 $(seen link-local link-local)" \
		"connect=0 peer=link-local:port sock=link-local:own status=503 via=direct end=eof" \
		$name blocking 6 "$link%eth0" 01
done

for name in frontend api; do
	in_ns $name sysctl -qw net.ipv4.tcp_syncookies=2
done
alike "SYN cookies" "$FINE" frontend blocking "4 6" api 01
alike "SYN cookies, from outside" "connect=0 $(seen outside api)" outside blocking "4 6" api 01
holds "... came back" [ "$(in_ns api nstat -asz TcpExtSyncookiesRecv | awk '/Recv/ {print $2}')" -ge 8 ]
for name in frontend api; do
	in_ns $name sysctl -qw net.ipv4.tcp_syncookies=1
done

# ---- many ----

same "no slot is left over" 0 "$(wait_slots 0)"
for f in 4 6; do
	later "closed-70$f" frontend closed $f api 7001
	later "closed-80$f" frontend closed $f api 8001
done
same "the proxy lets go of those whose server closed" 0 "$(wait_slots 0)"
alike "2,000 connections, one after the other" "right=2000 via=@" frontend many "4 6" api 01 2000
for f in 4 6; do
	for nn in 70 80; do
		now closed-$nn$f
		same "names stay after the server closed and 2,000 others came (IPv$f, port ${nn}01)" \
			"status=200 peer=api:port sock=frontend:own" "$FACTS"
	done
done
in_ns frontend sysctl -qw net.ipv4.ip_local_port_range="40000 40999"
# Each slot is another destination to the kernel, which may give a source port twice: of many
# open connections to one server some may show the same names. Direct they never do.
for f in 4 6; do
	same "of 300 connections at once no two have the same names, direct (IPv$f)" \
		"open=300 names=300 via=direct" "$(play frontend crowd $f api 7001 300)"
	facts=$(play frontend crowd $f api 8001 300)
	same "300 connections at once are open, proxied (IPv$f; ${facts#* })" "open=300" "${facts%% *}"
done
in_ns frontend sysctl -qw net.ipv4.ip_local_port_range="32768 60999"

# ---- what this design leans on, shown ----

# Identity is by address: the network has to see to it that nobody takes another's.
in_ns outside ip addr add 10.78.0.77/32 dev eth0
in_ns outside ip addr add fd00:78::77/128 dev eth0 nodad preferred_lft 0
for f in 4 6; do
	same "a port for elsewhere is closed to others (IPv$f)" "$REFUSED" "$(play outside blocking $f api 7012)"
	same "ASSUMED: nobody takes another's address; who can, is taken for him (IPv$f)" \
		"connect=0 $(seen elsewhere api | sed s/@/direct/)" "$(play outside bound $f api 7012 elsewhere)"
done
# What does not call connect() on a TCP socket is not judged where it starts, only where it
# arrives: raw sockets (CAP_NET_RAW) and SCTP.
same "what intruder may not dial is refused" "$REFUSED" "$(play intruder blocking 4 outside 7009)"
same "ASSUMED: workloads have no raw sockets; a SYN from one is not judged by its sender's rules" \
	"answer=syn-ack" "$(play intruder raw 4 outside 7009 intruder)"
same "... but by the receiver's" "answer=rst" "$(play frontend raw 4 api 8012 frontend)"
judge "ASSUMED: no SCTP; it is not judged" "connect=0 ${SEEN//frontend/intruder}" \
	"$(play intruder sctp 4 outside 7013)"

# ---- what is left ----

same "no slot is left over" 0 "$(wait_slots 0)"
# Where connect() fails after us nobody comes to take the slot: the sweep gives it back.
later gone-direct frontend bound-gone 4 api 7001 frontend-2
later gone-proxied frontend bound-gone 4 api 8001 frontend-2
in_ns frontend ip addr del 10.78.0.21/32 dev eth0
for way in direct proxied; do
	now gone-$way
	same "bound to an address that is gone, $way" "connect=ENETUNREACH error=0 $SILENT" "$FACTS"
done
alike "a connect() that fails after us is free to try again" "first=EAFNOSUPPORT $FINE" \
	frontend wrong-family "4 6" api 01
same "... only these hold slots until the sweep" 0 "$(($(wait_slots 3) > 3))"
finish
