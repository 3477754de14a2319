# SPDX-License-Identifier: Apache-2.0
# Two daemons on one machine, of different names: each has its workloads and leaves the other's
# alone; a network namespace belongs to one of them, and goes to the other when it is let go of.
#
#   a: frontend, api, and web, a cgroup of the host      b: intruder, outside
. "$(dirname "$0")/lib.sh"
box_up "two-$$"
TOP=/shunt-test-$$
HOST4=10.78.0.1
declare -A PIDOF=()

# The command finds b by its name alone: its run folder is the one that goes by it.
run_dir() { [ "$1" = a ] && echo "$TMP/run-a" || echo "/run/shunt-${BOX#shunt-}-b"; }
command_of() { # a|b VERB...
	local name=${BOX#shunt-}-$1 which=$1
	shift
	if [ "$which" = a ]; then
		in_ns node "$B/shunt" --name "$name" --run-dir "$(run_dir a)" "$@"
	else
		in_ns node "$B/shunt" --name "$name" "$@"
	fi
}
begin() { # a|b: not waited for
	local run=()
	[ "$1" = b ] || run=(--run-dir "$(run_dir a)")
	nsenter --net="/run/netns/$BOX-node" "$SHUNTD" --config "$TMP/config-$1" --name "${BOX#shunt-}-$1" "${run[@]}" \
		--state-dir "$TMP/state-$1" --bpffs "$BPFFS" </dev/null >>"$TMP/shuntd.log.$1" 2>&1 &
	PIDOF[$1]=$!
}
start() { # a|b
	local tries=$((100 * FACTOR))
	: >"$TMP/shuntd.log.$1"
	begin "$1"
	until grep -q ' runs, revision ' "$TMP/shuntd.log.$1"; do
		tries=$((tries - 1))
		[ $tries -gt 0 ] && kill -0 "${PIDOF[$1]}" 2>/dev/null || { cat "$TMP/shuntd.log.$1" >&2; return 1; }
		sleep 0.05
	done
}
stop() { # a|b [SIGNAL]
	[ -n "${PIDOF[$1]:-}" ] || return 0
	kill "-${2:-TERM}" "${PIDOF[$1]}" 2>/dev/null
	wait "${PIDOF[$1]}" 2>/dev/null
	PIDOF[$1]=
}
daemon_detach() { # what lib.sh calls at the end
	local which
	for which in a b; do
		stop $which
		command_of $which detach --bpffs "$BPFFS" >/dev/null 2>&1
		rmdir "$(cgroup_root)/$BOX-$which" 2>/dev/null
	done
	rm -rf "$(run_dir b)"
}

document() { # NAME WHERE: a selector, or an address of a workload elsewhere
	local where="selectors: [\"$2\"]"
	case $2 in
	*:/*) ;;
	*) where="addresses: [$2]" ;;
	esac
	cat <<-DOC
	---
	apiVersion: shunt.dev/v1
	kind: Workload
	metadata: {name: $1, namespace: shop}
	spec: {labels: {app: $1}, $where}
	DOC
}
rule() { # SUBJECT ingress|egress PEER PORT PATH
	local end=from
	[ "$2" = ingress ] || end=to
	cat <<-DOC
	---
	apiVersion: cilium.io/v2
	kind: CiliumNetworkPolicy
	metadata: {name: $1-$2-$3, namespace: shop}
	spec:
	  endpointSelector: {matchLabels: {app: $1}}
	  $2:
	  - ${end}Endpoints: [{matchLabels: {app: $3}}]
	    toPorts: [{ports: [{port: "$4", protocol: TCP}], rules: {http: [{method: GET, path: "$5"}]}}]
	DOC
}
configure() { # a|b METRICS READINESS; documents come from standard input
	mkdir -p "$TMP/config-$1/conf.d"
	cat >"$TMP/config-$1/conf.d/10.yaml"
	cat >"$TMP/config-$1/shunt.yaml" <<-DOC
	accessLog: {path: $TMP/access-$1.log}
	metrics: {address: "127.0.0.1:$2"}
	readiness: {address: "127.0.0.1:$3"}
	DOC
}
documents_a() {
	document frontend "netns:/run/netns/$BOX-frontend"
	document api "netns:/run/netns/$BOX-api"
	document web "cgroup:$TOP/web"
	document intruder "10.78.0.13, 'fd00:78::13'"
	rule api ingress frontend 80 '/public/.*'
	rule api ingress intruder 80 '/public/.*'
	rule web ingress frontend 8081 '/web'
}
documents_b() {
	document intruder "netns:/run/netns/$BOX-intruder"
	document outside "netns:/run/netns/$BOX-outside"
	document api "10.78.0.12, 'fd00:78::12'"
	rule outside ingress intruder 80 '/b'
	rule intruder egress outside 80 '/.*'
	rule intruder egress api 80 '/public/a'
}
recorded_by() { # SENTENCE a|b CONDITION
	LOG=$TMP/access-$2.log
	recorded "$1" "$3"
}
requests() { # a|b PATH: how many requests of it the log has
	jq -c "select(.type == \"request\" and .path == \"$2\")" "$TMP/access-$1.log" | wc -l
}
workload() { # a|b NAME JQ: what status says of it
	command_of "$1" status -o json | jq -r ".workloads[] | select(.name == \"$2\") | $3"
}
wait_state() { # a|b NAME STATE
	local tries=$((120 * FACTOR))
	until [ "$(workload "$1" "$2" .state)" = "$3" ] || [ $tries -eq 0 ]; do
		tries=$((tries - 1))
		sleep 0.1
	done
	[ "$(workload "$1" "$2" .state)" = "$3" ]
}
routes() { # NAMESPACE...: how many of them have the route of the IPv6 slots
	local name n=0
	for name in "$@"; do
		n=$((n + $(in_ns "$name" ip -6 route show table local | grep -c fd73:6875:6e74::/64)))
	done
	echo $n
}
all_of_a() { echo "$(curl_from frontend http://10.78.0.12/public/a) $(curl_from frontend 'http://[fd00:78::12]/private') $(curl_from frontend http://$HOST4:8081/web) $(curl_from frontend 'http://[fd00:78::1]:8081/private')"; }
all_of_b() { echo "$(curl_from intruder http://10.78.0.99/b) $(curl_from intruder 'http://[fd00:78::99]/private')"; }

cgroup_make "$TOP/web"
cgroup_make "$TOP/own"
nginx_start api 80
nginx_start outside 80
CGROUP=$TOP/web nginx_start node 8081 web
CGROUP=$TOP/own nginx_start node 8082 own
configure a 15020 15021 < <(documents_a)
configure b 15030 15031 < <(documents_b)
start a || exit 1

# ---- addresses that are taken ----

before=$(find "$BPFFS" | wc -l)
for option in metrics:15020:15031 readiness:15030:15021; do
	IFS=: read -r name metrics readiness <<<"$option"
	configure b "$metrics" "$readiness" < <(documents_b)
	: >"$TMP/shuntd.log.b"
	begin b
	wait "${PIDOF[b]}"
	same "a daemon whose $name.address is taken does not start" 1 $?
	PIDOF[b]=
	holds "... says which and why" grep -q "$name.address 127.0.0.1:.*in use" "$TMP/shuntd.log.b"
	same "... and leaves nothing: no pin" "$before" "$(find "$BPFFS" | wc -l)"
	holds "... no cgroup" [ ! -e "$(cgroup_root)/$BOX-b" ]
	holds "... no socket" [ ! -e "$(run_dir b)/admin.sock" ]
	same "... no route" 0 "$(routes intruder outside)"
	same "... while the other goes on" "200 403 200 403" "$(all_of_a)"
done
configure b 15030 15031 < <(documents_b)
start b || exit 1

# ---- each its own ----

same "status of each names its own" "api frontend web, intruder outside" \
	"$(command_of a status -o json | jq -r '.workloads[].name' | sort | paste -sd' '), $(command_of b status -o json | jq -r '.workloads[].name' | sort | paste -sd' ')"
same "... and its name" "${BOX#shunt-}-a ${BOX#shunt-}-b" "$(command_of a status -o json | jq -r .name) $(command_of b status -o json | jq -r .name)"
same "one daemon's are captured" "200 403 200 403" "$(all_of_a)"
same "the other's are captured" "200 403" "$(all_of_b)"
recorded_by "the first has its records" a '.path == "/web" and ."dst.workload" == "web" and .verdict == "allowed"'
recorded_by "the second has its records" b '.path == "/b" and ."src.workload" == "intruder" and .verdict == "allowed"'
same "... and neither the other's" "0 0" "$(requests a /b) $(requests b /web)"
same "from one's to the other's both judge: allowed by both" "200 api GET /public/a from 10.78.0.13" \
	"$(curl_from intruder http://10.78.0.12/public/a) $(cat "$TMP/body")"
same "... over IPv6" "200 api GET /public/a from fd00:78::13" \
	"$(curl_from intruder 'http://[fd00:78::12]/public/a') $(cat "$TMP/body")"
recorded_by "... in the log of the one" a '.path == "/public/a" and .direction == "inbound" and ."src.workload" == "intruder"'
recorded_by "... and of the other" b '.path == "/public/a" and .direction == "outbound" and ."dst.workload" == "api"'
same "... refused by the second alone" "403 0" "$(curl_from intruder http://10.78.0.12/public/c) $(requests a /public/c)"
same "... by the second's ingress" 7 "$(curl_status frontend http://10.78.0.99/b)"
same "ports nobody listens on are known to both" "7 7" "$(curl_status frontend http://10.78.0.12:81/) $(curl_status intruder http://10.78.0.99:81/)"
same "the registries of both are whole" "complete complete" "$(workload a api .registry) $(workload b outside .registry)"
same "the IPv6 slots have their routes, on the host too" 5 "$(routes frontend api intruder outside node)"

# ---- the same namespace in both ----

both_b() {
	documents_b | awk 'BEGIN {RS = "---\n"; ORS = "---\n"} NF && !/name: api, /'
	document api "netns:/run/netns/$BOX-api"
	document front "netns:/run/netns/$BOX-frontend"
	document own "cgroup:$TOP/own"
	rule api ingress outside 80 '/other'
	rule own ingress outside 8082 '/own'
	rule front egress outside 80 '/b'
	rule outside ingress front 80 '/b'
}
configure b 15030 15031 < <(both_b)
holds "the second names what the first has" command_of b reload
for name in api front own; do
	same "... $name stays with the first" "absent: foreign_shunt" "$(workload b $name '.state + ": " + .reason')"
done
holds "... and status says who has it" grep -q 'another shuntd' <<<"$(workload b api .why)"
same "the first judges as before" "200 403 200 403" "$(all_of_a)"
same "... for clients of the second too" 7 "$(curl_status outside http://10.78.0.12/other)"
same "the second judges as before" "200 403" "$(all_of_b)"
same "what it could not take is left alone" 200 "$(curl_from outside http://$HOST4:8082/private)"

# ---- one goes ----

stop a KILL
same "the first is killed: its workloads are refused" "7 7 7" \
	"$(curl_status frontend http://10.78.0.12/public/a) $(curl_status frontend "http://$HOST4:8081/web") $(curl_status intruder http://10.78.0.12/public/a)"
same "... the second goes on" "200 403" "$(all_of_b)"
same "... and does not take what the first still holds" "absent absent" "$(workload b api .state) $(workload b own .state)"
start a || exit 1
same "... until it is back" "200 403 200 403" "$(all_of_a)"
stop b KILL
same "the second is killed: its workloads are refused" "7 7" \
	"$(curl_status intruder http://10.78.0.99/b) $(curl_status frontend http://10.78.0.99/b)"
same "... the first goes on" "200 403 200 403" "$(all_of_a)"
start b || exit 1

# ---- from one to the other ----

for round in $(seq 20); do
	curl_from frontend http://10.78.0.12/public/a >/dev/null
done
documents_a | awk 'BEGIN {RS = "---\n"; ORS = "---\n"} NF && !/name: (frontend|web), /' >"$TMP/config-a/conf.d/10.yaml"
holds "the first lets go of a namespace and of the host" command_of a reload
holds "the second takes the namespace" wait_state b front captured
holds "... and the host" wait_state b own captured
same "... and judges there" "200 403 200 403" \
	"$(curl_from frontend http://10.78.0.99/b) $(curl_from frontend 'http://[fd00:78::99]/x') $(curl_from outside http://$HOST4:8082/own) $(curl_from outside 'http://[fd00:78::1]:8082/x')"
for round in 1 2 3; do
	same "... a client is told whom it dialled, not whom it dialled before ($round)" "10.78.0.99" \
		"$(in_ns frontend curl -s -o /dev/null -w '%{remote_ip}' http://10.78.0.99/b)"
done
same "... what the first had on the host is free" 200 "$(curl_from outside http://$HOST4:8081/private)"
same "... the routes stand" 5 "$(routes frontend api intruder outside node)"

holds "the first is detached" command_of a detach --bpffs "$BPFFS"
wait "${PIDOF[a]}" 2>/dev/null
PIDOF[a]=
holds "the second takes what it had left" wait_state b api captured
same "... judges there" "200 403" "$(curl_from outside http://10.78.0.12/other) $(curl_from outside 'http://[fd00:78::12]/x')"
same "... and where it did before" "200 403 200 403" \
	"$(all_of_b) $(curl_from outside http://$HOST4:8082/own) $(curl_from outside 'http://[fd00:78::1]:8082/x')"
same "... the routes stand" 5 "$(routes frontend api intruder outside node)"
same "nothing of the first is left" "" "$(find "$BPFFS" -path "*-a*")"
holds "... and its cgroup is gone" [ ! -e "$(cgroup_root)/$BOX-a" ]
stop b KILL
holds "the second is detached after it was killed" command_of b detach --bpffs "$BPFFS"
same "everybody is free" "200 200 200" \
	"$(curl_from frontend http://10.78.0.99/private) $(curl_from intruder 'http://[fd00:78::12]/private') $(curl_from outside http://$HOST4:8082/private)"
same "nothing is left: no route" 0 "$(routes frontend api intruder outside node)"
same "... no pin" "" "$(find "$BPFFS/shunt" 2>/dev/null)"
holds "... no cgroup" [ ! -e "$(cgroup_root)/$BOX-b" ]

# ---- both at once ----

# Who does not hold a namespace knows its addresses by the documents alone.
both_a() {
	documents_a | sed "s|-frontend\"\]|&, addresses: [10.78.0.11, 'fd00:78::11']|
		s|-api\"\]|&, addresses: [10.78.0.12, 'fd00:78::12']|"
}
for round in 1 2 3 4 5; do
	configure a 15020 15021 < <(both_a)
	configure b 15030 15031 < <(both_a)
	: >"$TMP/shuntd.log.b"
	begin b
	start a || exit 1
	tries=$((120 * FACTOR))
	until [ "$(for which in a b; do command_of $which status -o json; done | jq -r '.workloads[].state' | sort | uniq -c | awk '{print $2 "=" $1}' | paste -sd' ')" = "absent=3 captured=3" ] || [ $tries -eq 0 ]; do
		tries=$((tries - 1))
		sleep 0.1
	done
	same "two that start at once with the same workloads share them out, and judge ($round)" "6 200 403 200 403" \
		"$(for which in a b; do command_of $which status -o json; done | jq -r '.workloads[] | .name + " " + .state' | sort -u | wc -l) $(all_of_a)"
	for which in a b; do
		command_of $which detach --bpffs "$BPFFS" >/dev/null
		wait "${PIDOF[$which]}" 2>/dev/null
		PIDOF[$which]=
	done
done
same "nothing is left afterwards: no route, no pin" "0 " "$(routes frontend api intruder outside node) $(find "$BPFFS/shunt" 2>/dev/null)"
cat "$TMP"/access-[ab].log >"$TMP/access.log"
LOG=$TMP/access.log
finish
