# SPDX-License-Identifier: Apache-2.0
# `shunt workload add`, `remove` and `bypass`: captured when the command returns, kept over
# restarts, given back, forgotten.
. "$(dirname "$0")/lib.sh"
box_up "work-$$"
OPTIONS="workers: 2"
STATE=$TMP/state
nginx_start api 80
nginx_start api 81
nginx_start outside 80 web
nginx_start outside 83 web

cat test/netns/policy.yaml test/netns/cage.yaml | config_write
daemon_start || exit 1

add() { shunt_ workload add "$@"; }
status_of() { shunt_ workload list -o json | jq -r --arg name "$1" ".[] | select(.name == \$name) | $2"; }
pinned() { bpftool -j map dump pinned "$BPFFS/shunt/${BOX#shunt-}/v2/$1"; }
in_state() { [ "$(status_of "$1" .state)" = "$2" ]; }
has_addresses() { [ "$(status_of "$1" '.addresses | join(" ")')" = "$2" ]; }
forgotten() { [ -z "$(status_of "$1" .state)" ] && [ ! -e "$STATE/workloads/shop_$1.yaml" ]; }
refuses() { [ "$(curl_from "$1" "$2")" = 000 ]; }
sample_is() { [ "$(sample "$1")" = "$2" ]; }
kept() { find "$STATE/workloads" -type f | wc -l; }

# is_told SENTENCE STATUS TEXT ARGUMENTS...: `shunt workload ARGUMENTS` ends so and says so.
is_told() {
	local sentence=$1 expected=$2 text=$3 status
	shift 3
	shunt_ workload "$@" >"$TMP/said" 2>&1
	status=$?
	if [ $status -eq "$expected" ] && { [ -z "$text" ] || grep -q -- "$text" "$TMP/said"; }; then
		ok "$sentence"
	else
		not_ok "$sentence" "status $status, expected $expected and '$text': $(cat "$TMP/said")"
	fi
}

# eventually COMMAND...: within ten seconds or so.
eventually() {
	local tries=$((200 * FACTOR))
	until "$@" >/dev/null 2>&1; do
		tries=$((tries - 1))
		[ $tries -gt 0 ] || return 1
		sleep 0.05
	done
}
becomes() { # SENTENCE COMMAND...
	local sentence=$1
	shift
	holds "$sentence" eventually "$@"
}

# wire PATH NUMBER: puts any network namespace on the bridge, in two commands.
wire() {
	in_ns node ip -batch - <<-COMMANDS &&
	link add v$2 type veth peer name peer$2
	link set peer$2 netns $1
	link set v$2 master br0 up
	COMMANDS
	nsenter --net="$1" ip -batch - <<-COMMANDS
	link set lo up
	link set peer$2 name eth0
	addr add 10.78.0.$2/24 dev eth0
	addr add fd00:78::$2/64 dev eth0 nodad
	link set eth0 up
	route add default via 10.78.0.1
	COMMANDS
}

# unnamed NUMBER: a namespace that only a process holds; its pid is in $UNNAMED.
unnamed() {
	unshare --net sleep 600 &
	UNNAMED=$!
	PIDS+=("$UNNAMED")
	eventually in_another "$UNNAMED" && wire "/proc/$UNNAMED/ns/net" "$1"
}
in_another() { # PID: is it in another namespace than we?
	local there
	there=$(readlink "/proc/$1/ns/net") && [ -n "$there" ] && [ "$there" != "$(readlink /proc/self/ns/net)" ]
}

# ---- captured when the command returns ----

# The socket is made before the workload is added, and connects when the command has ended.
race='import socket, subprocess, sys
address, port = sys.argv[1:3]
s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
s.settimeout(20)
if len(sys.argv) > 3 and subprocess.run(sys.argv[3:], stdout=subprocess.DEVNULL).returncode:
    sys.exit("not added")
try:
    s.connect((address, int(port)))
    s.sendall(b"GET /private HTTP/1.1\r\nHost: web\r\n\r\n")
    print(s.recv(4096).decode().split()[1])
except ConnectionRefusedError:
    print("refused")'

ip netns add "$BOX-late"
wire "/run/netns/$BOX-late" 44
same "what is in no workload reaches all of web (an escape would show)" "200 200" \
	"$(in_ns late python3 -c "$race" 10.78.0.99 80) $(in_ns late python3 -c "$race" fd00:78::99 83)"
add shop/late --netns "/run/netns/$BOX-late" --label app=caged -o json >"$TMP/added.json"
same "add answers with what is captured" \
	"true shop late netns:/run/netns/$BOX-late captured added deny 10.78.0.44,fd00:78::44" \
	"$(jq -r '[.ok, (.workload | .namespace, .name, .selector, .state, .source, .onUnavailable, (.addresses | join(",")))] | join(" ")' "$TMP/added.json")"
same "... and with the seconds it took" number "$(jq -r '.seconds | type' "$TMP/added.json")"
same "... it cannot be added to a workload what another is" 1 \
	"$(add shop/other --netns "/run/netns/$BOX-late" --label app=caged >/dev/null 2>&1; echo $?)"
same "remove answers in JSON too" "true false" "$(shunt_ workload remove shop/late -o json | jq -r '[.ok, .documented] | join(" ")')"
add shop/late --netns "/run/netns/$BOX-late" --label app=caged >"$TMP/said"
same "without -o json add says one line" 1 "$(wc -l <"$TMP/said")"
holds "... that has namespace, addresses and time" \
	grep -q "^shop/late captured (netns /run/netns/$BOX-late, 10.78.0.44 fd00:78::44, .* m\?s)$" "$TMP/said"
shunt_ workload remove shop/late >/dev/null
ip netns del "$BOX-late"

# Four kinds of round: a path or a pid, a port that is refused or a request that is, both
# families.
: "${ROUNDS:=40}"
escaped='' rounds=0
while [ $rounds -lt "$ROUNDS" ]; do
	number=$((100 + rounds % 100))
	case $((rounds % 2)) in
	0) ip netns add "$BOX-race" && where=/run/netns/$BOX-race && wire "$where" $number && by="--netns $where" ;;
	1) unnamed $number && where=/proc/$UNNAMED/ns/net && by="--pid $UNNAMED" ;;
	esac
	case $((rounds / 2 % 4)) in
	0) to="10.78.0.99 83" wanted=refused ;;
	1) to="10.78.0.99 80" wanted=403 ;;
	2) to="fd00:78::99 83" wanted=refused ;;
	3) to="fd00:78::99 80" wanted=403 ;;
	esac
	# shellcheck disable=SC2086 # words on purpose
	got=$(nsenter --net="$where" python3 -c "$race" $to "$B/shunt" --run-dir "$RUN" workload add shop/race $by --label app=caged 2>&1)
	[ "$got" = $wanted ] || escaped+=" round $rounds ($by, $to): $got;"
	shunt_ workload remove shop/race >/dev/null || escaped+=" round $rounds: not removed;"
	case $((rounds % 2)) in
	0) ip netns del "$BOX-race" ;;
	1) kill "$UNNAMED"; wait "$UNNAMED" 2>/dev/null ;;
	esac
	rounds=$((rounds + 1))
done
same "the first connect after add was judged in each of $ROUNDS new namespaces" "" "$escaped"

# ---- who it is ----

ip netns add "$BOX-late"
wire "/run/netns/$BOX-late" 44
LATE=/run/netns/$BOX-late
is_told "without labels a document must say who it is" 1 "no Workload document has this name" \
	add shop/late --netns "$LATE"
same "... and nothing of it is kept" "0 " "$(kept) $(status_of late .state)"
cat >"$TMP/config/conf.d/30-late.yaml" <<'DOC'
apiVersion: shunt.dev/v1
kind: Workload
metadata: {name: late, namespace: shop}
spec: {labels: {app: frontend}, serviceAccount: written, addresses: [10.78.0.44, "fd00:78::44"]}
DOC
is_told "a document in the folder that was not loaded yet is none" 1 "no Workload document has this name" \
	add shop/late --netns "$LATE"
shunt_ reload >/dev/null
is_told "with a document of that name it needs none" 0 "^shop/late captured" add shop/late --netns "$LATE"
same "... it has the document's labels" "200 403" \
	"$(curl_from late http://10.78.0.12/public/a) $(curl_from late http://10.78.0.12/private)"
same "... and its own, where they are given" "000 403" \
	"$(add shop/late --netns "$LATE" --label app=caged >/dev/null; curl_from late http://10.78.0.12/public/a) $(curl_from late http://10.78.0.99/private)"
is_told "removed, it is what the document says, without a namespace" 0 "a document of that name remains" \
	remove shop/late
same "... and its traffic is its own" 200 "$(curl_from late http://10.78.0.99/private)"
rm "$TMP/config/conf.d/30-late.yaml"
shunt_ reload >/dev/null

add shop/late --netns "$LATE" --label app=caged --label tier=web --service-account robot --on-unavailable allow >/dev/null
same "--on-unavailable is shown" allow "$(status_of late .onUnavailable)"
curl_from late http://10.78.0.99/private >/dev/null
recorded "--service-account is in the identity" \
	'.status == 403 and ."src.workload" == "late" and (."src.identity" | endswith("/ns/shop/sa/robot"))'
daemon_stop KILL
same "--on-unavailable allow: with the daemon dead what would be proxied passes" 200 \
	"$(curl_from late http://10.78.0.99/private)"
same "... what is denied stays denied" 000 "$(curl_from late http://10.78.0.99:83/)"
same "... and so does what another's deny refuses" 000 "$(curl_from frontend http://10.78.0.12/public/a)"
daemon_start || exit 1
same "... with the daemon back it is judged" 403 "$(curl_from late http://10.78.0.99/private)"
shunt_ workload remove shop/late >/dev/null

is_told "a name is NAMESPACE/NAME" 2 "not NAMESPACE/NAME" add late --netns "$LATE" --label a=b
is_told "... in lower case" 2 "is not a namespace" add Shop/late --netns "$LATE" --label a=b
is_told "... with something behind the slash" 2 "is not a name" add shop/ --netns "$LATE" --label a=b
is_told "... and before it" 2 "is not a namespace" add /late --netns "$LATE" --label a=b
is_told "... and no way out of a folder" 2 "is not a name" add shop/../late --netns "$LATE" --label a=b
is_told "a label is KEY=VALUE" 2 "KEY=VALUE" add shop/late --netns "$LATE" --label app
is_told "a label is given once" 2 "given twice" add shop/late --netns "$LATE" --label a=b --label a=c
is_told "a selector is needed" 2 "exactly one of" add shop/late --label a=b
is_told "... one" 2 "exactly one of" add shop/late --netns "$LATE" --pid $$ --label a=b
is_told "a path that is not there is wrong usage" 2 "No such file" add shop/late --netns "$LATE-not" --label a=b
is_told "a process that is not there too" 2 "no process" add shop/late --pid 4194999 --label a=b
is_told "a file that is no namespace is refused" 1 "not a network namespace" \
	add shop/late --netns /etc/passwd --label a=b
is_told "... and a namespace of another kind" 1 "not a network namespace" \
	add shop/late --netns /proc/$$/ns/mnt --label a=b
ip netns add "$BOX-bare"
is_told "a namespace that is not ready is refused, and what it lacks said" 1 "lo is down" \
	add shop/late --netns "/run/netns/$BOX-bare" --label a=b
in_ns bare ip link set lo up
is_told "... ready, without addresses, it is captured" 0 "^shop/bare captured (netns [^,]*, [0-9.]* m\?s)$" \
	add shop/bare --netns "/run/netns/$BOX-bare" --label app=caged
wire "/run/netns/$BOX-bare" 47
becomes "... with those that come later, too" has_addresses bare "10.78.0.47 fd00:78::47"
same "... and judged in both families" "403 403 000" \
	"$(curl_from bare http://10.78.0.99/private) $(curl_from bare 'http://[fd00:78::99]/private') $(curl_from bare http://10.78.0.99:83/)"
shunt_ workload remove shop/bare >/dev/null
ip netns del "$BOX-bare"
is_told "the host's own namespace is refused, with the remedy" 1 "select its workloads by cgroup: or systemd:id:" \
	add shop/late --netns "/run/netns/$BOX-node" --label a=b
is_told "a namespace that another workload has is refused" 1 "is also that of shop/frontend" \
	add shop/late --netns "/run/netns/$BOX-frontend" --label a=b
unnamed 45
add shop/first --pid "$UNNAMED" --label a=b >/dev/null
mount --bind "/proc/$UNNAMED/ns/net" "$(touch "$TMP/bound" && echo "$TMP/bound")"
is_told "... by another path, too" 1 "another workload has this network namespace" \
	add shop/second --netns "$TMP/bound" --label a=b
umount "$TMP/bound"
same "... which leaves the first as it was" captured "$(status_of first .state)"
shunt_ workload remove shop/first >/dev/null
kill "$UNNAMED"
is_told "a unit that does not run is refused" 1 "no such unit runs" add shop/late --systemd "$BOX-none" --label a=b
ask_daemon() { curl -s -m 10 --unix-socket "$RUN/admin.sock" -X POST "http://shunt/workload/$1"; }
same "the daemon refuses a selector that is none, whoever asks" \
	"false selector is none of netns:, cgroup:, systemd:id:" \
	"$(ask_daemon 'add?namespace=shop&name=late&selector=docker:id:1&label=a=b' | jq -r '[.ok, .error] | join(" ")')"
same "... a name that is none" false "$(ask_daemon "add?namespace=..&name=late&selector=netns:$LATE&label=a=b" | jq .ok)"
same "... a relative path" false "$(ask_daemon "add?namespace=shop&name=late&selector=netns:late&label=a=b" | jq .ok)"
same "... and a parameter it does not know" false "$(ask_daemon "add?namespace=shop&name=late&selector=netns:$LATE&label=a=b&colour=red" | jq .ok)"
same "nothing of what was refused is kept" "0 3" "$(kept) $(shunt_ workload list -o json | jq length)"

# ---- kept ----

judged() { # is late caged?
	[ "$(curl_from late http://10.78.0.99/public/a) $(curl_from late http://10.78.0.99/private)" = "200 403" ]
}
add shop/late --netns "$LATE" --label app=caged >/dev/null
unnamed 46
add shop/held --pid "$UNNAMED" --label app=caged --service-account robot >/dev/null
HELD=$UNNAMED
held() { nsenter --net="/proc/$HELD/ns/net" curl -s -m $((10 * FACTOR)) -o /dev/null -w '%{http_code}' "$@"; }
same "the state folder is for its owner only" "700 700" "$(stat -c %a "$STATE" "$STATE/workloads" | paste -sd' ')"
same "... one document each, and the layout" "1 layout workloads/shop_held.yaml workloads/shop_late.yaml" \
	"$(cat "$STATE/layout") $(cd "$STATE" && find . -type f -printf '%P\n' | sort | paste -sd' ')"
same "... which nobody else reads" "600 600 600" "$(cd "$STATE" && stat -c %a layout workloads/* | paste -sd' ')"
for how in TERM KILL; do
	daemon_stop $how
	same "after SIG$how what would be proxied is refused" "000 000" "$(curl_from late http://10.78.0.99/public/a) $(held http://10.78.0.99/public/a)"
	daemon_start || exit 1
	holds "... and after a restart it is captured again, with its labels" judged
	same "... by path and by pid" "captured added captured added" "$(status_of late '.state + " " + .source') $(status_of held '.state + " " + .source')"
	same "... both" "200 403" "$(held http://10.78.0.99/public/a) $(held http://10.78.0.99/private)"
done

start_refused() { # SENTENCE TEXT: the daemon does not start and says why
	nsenter --net="/run/netns/$BOX-node" "$SHUNTD" --config "$TMP/config" --name "${BOX#shunt-}" \
		--run-dir "$RUN" --state-dir "$STATE" --bpffs "$BPFFS" </dev/null 2>"$TMP/err"
	same "$1" 1 $?
	holds "... and the error says: $2" grep -q -- "$2" "$TMP/err"
}
daemon_stop TERM
echo 7 >"$STATE/layout"
start_refused "a state folder of another layout is refused" \
	"$STATE: its layout is '7', this version uses '1'; .*remove the folder and add the workloads again"
same "... what is pinned goes on: refused, denied, and direct traffic" "000 000 200" \
	"$(curl_from late http://10.78.0.99/public/a) $(curl_from late http://10.78.0.99:83/) $(curl_from outside http://10.78.0.99/)"
echo 1 >"$STATE/layout"
cp "$STATE/workloads/shop_held.yaml" "$TMP/held.yaml"
sed -i 's/serviceAccount/serviceAcount/' "$STATE/workloads/shop_held.yaml"
start_refused "a damaged document in it keeps the daemon from starting" \
	"workloads/shop_held.yaml:[0-9]*:[0-9]*: .*serviceAcount"
printf '\0\1\2' >"$STATE/workloads/shop_held.yaml"
start_refused "... and one of rubbish" "workloads/shop_held.yaml:[0-9]*:[0-9]*: "
cp "$TMP/held.yaml" "$STATE/workloads/shop_held.yaml"
daemon_start || exit 1
holds "mended, it is captured again" judged
printf 'rubbish' >"$STATE/workloads/shop_held.yaml"
is_told "a file that was damaged meanwhile refuses an add, with its place" 1 "workloads/shop_held.yaml:1:1" \
	add shop/other --netns "/run/netns/$BOX-outside" --label a=b
is_told "... and other labels for one that is there" 1 "does not go together" \
	add shop/late --netns "$LATE" --label app=frontend
holds "... which changes nothing" judged
same "... nor says the documents' warnings again" "0 1" \
	"$(grep -c 'UDP is not policed' "$TMP/said") $(grep -c 'UDP is not policed' "$TMP/shuntd.log")"
same "... and keeps nothing" "" "$(find "$STATE" -name '*other*')"
cp "$TMP/held.yaml" "$STATE/workloads/shop_held.yaml"
chmod 600 "$STATE/workloads/shop_held.yaml"

# ---- removed, added again, moved ----

in_ns late nc -lk 8000 >/dev/null 2>&1 &
PIDS+=($!)
wait_listening late 8000
cookie=$(in_ns late python3 -c 'import socket; print(socket.socket().getsockopt(socket.SOL_SOCKET, 71, 8)[::-1].hex())')
# What the kernel has of late: our listeners, routes, pins, places, addresses, ports.
of_late() {
	echo "$(in_ns late ss -Hltn | grep -cv :8000) $(in_ns late ip -6 route show table local | grep -c fd73)" \
		"$(find "$BPFFS/shunt" -name "inbound_$cookie" | wc -l)" \
		"$(pinned places | jq -r '.[].key | reverse | map(.[2:]) | join("")' | grep -c "$cookie")" \
		"$(pinned addresses | jq -r '.[].key[12:] | map(.[2:]) | join("")' | grep -c '^0a4e002c$')" \
		"$(pinned ports | jq -r '.[].key[:8] | reverse | map(.[2:]) | join("")' | grep -c "$cookie")"
}
same "late is in the kernel: listeners, route, pin, place, address, port" "4 1 1 1 1 1" "$(of_late)"
is_told "remove says so" 0 "^shop/late removed$" remove shop/late
# (Its port stays as long as somebody listens: the registry has those of all namespaces.)
same "... and nothing of it is left there" "0 0 0 0 0 1" "$(of_late)"
same "... nor in the state folder" "" "$(find "$STATE" -name '*late*')"
same "... its traffic is direct again" "200 200" \
	"$(curl_from late http://10.78.0.99/private) $(curl_from late 'http://[fd00:78::99]:83/')"
is_told "removing what was not added is refused" 1 "no such workload" remove shop/late
is_told "... and is well with --if-exists" 0 "" remove shop/late --if-exists
is_told "what a document says cannot be removed" 1 "no such workload" remove shop/api
add shop/late --netns "$LATE" --label app=caged >/dev/null
holds "added again, it is judged again" judged
same "... and in the kernel again" "4 1 1 1 1 1" "$(of_late)"
is_told "added twice, it is still one" 0 "^shop/late captured" add shop/late --netns "$LATE" --label app=caged
same "... in the kernel" "4 1 1 1 1 1" "$(of_late)"
is_told "with other labels it is another at once" 0 "" add shop/late --netns "$LATE" --label app=frontend
same "... in the kernel and in the proxy" "200 200 403" \
	"$(curl_from late http://10.78.0.99/private) $(curl_from late http://10.78.0.12/public/a) $(curl_from late http://10.78.0.12/private)"
add shop/late --netns "$LATE" --label app=caged >/dev/null
released() { grep -c 'workload shop/late: released' "$TMP/shuntd.log"; }
before=$(released)
is_told "a place that cannot be had does not cost it the one it has" 1 "not a network namespace" \
	add shop/late --netns /etc/passwd --label app=caged
is_told "... nor one that is another's" 1 "another workload has this network namespace" \
	add shop/late --netns "/run/netns/$BOX-api" --label app=caged
is_told "... nor missing labels" 1 "no Workload document" add shop/late --netns "$LATE"
holds "... it is judged as before" judged
same "... kept as before, too" "netns:$LATE caged" \
	"$(grep -o 'netns:[^"]*' "$STATE/workloads/shop_late.yaml") $(grep -o caged "$STATE/workloads/shop_late.yaml")"
same "... and was not let go of meanwhile" "$before" "$(released)"
ip netns add "$BOX-later"
wire "/run/netns/$BOX-later" 48
is_told "with another path it moves there" 0 "captured (netns /run/netns/$BOX-later" \
	add shop/late --netns "/run/netns/$BOX-later" --label app=caged
same "... the old place is let go of" "0 0 0 0 0 1 200" "$(of_late) $(curl_from late http://10.78.0.99/private)"
same "... the new one judged" 403 "$(curl_from later http://10.78.0.99/private)"
same "... and it is kept once" 2 "$(kept)"
ip netns del "$BOX-later"
becomes "a namespace that is deleted is let go of" in_state late absent
same "... it stays added, for when the path is there again" 2 "$(kept)"
ip netns add "$BOX-later"
wire "/run/netns/$BOX-later" 49
becomes "... and is captured again then" in_state late captured
shunt_ workload remove shop/late >/dev/null
ip netns del "$BOX-later"

# ---- by the number of a process ----

unnamed 50
add shop/brief --pid "$UNNAMED" --label app=caged >/dev/null
before=$(find "$BPFFS/shunt" -name 'inbound_*' | wc -l)
kill "$UNNAMED"
wait "$UNNAMED" 2>/dev/null
becomes "a workload added by a pid is forgotten when the process has ended" forgotten brief
same "... with what the kernel had of it" $((before - 1)) "$(find "$BPFFS/shunt" -name 'inbound_*' | wc -l)"
holds "... and the log says so" grep -q "workload shop/brief: its process is gone" "$TMP/shuntd.log"
same "... the other one stays" "captured 403" "$(status_of held .state) $(held http://10.78.0.99/private)"
# What may pass is no reason to forget: here another mesh's port.
meshed() { nsenter --net="/proc/$HELD/ns/net" ss -Hltn "sport = :15008" | grep -q .; }
daemon_stop TERM
nsenter --net="/proc/$HELD/ns/net" nc -lk 15008 >/dev/null 2>&1 &
PIDS+=($!)
eventually meshed
daemon_start || exit 1
becomes "one that cannot be captured just now is absent" in_state held absent
sleep 1.5 # three looks of the daemon
same "... but not forgotten" "absent 1" "$(status_of held .state) $(find "$STATE/workloads" -name '*held*' | wc -l)"
kill "${PIDS[-1]}"
becomes "... and captured when it can be" in_state held captured
# The path of a process leads into another namespace after a while: the number tells them apart.
daemon_stop TERM
sed -i 's/netns-inode:[0-9]*/netns-inode:4026531999/' "$STATE/workloads/shop_held.yaml"
daemon_start || exit 1
becomes "a path that leads into another namespace today is not taken for it, but forgotten" forgotten held
same "... whoever is there is left alone" "200 200" "$(held http://10.78.0.99/private) $(held http://10.78.0.99:83/)"
holds "... and was not enrolled" bash -c "! grep -q 'shop/held: enrolled' $TMP/shuntd.log"
add shop/held --pid "$HELD" --label app=caged >/dev/null
daemon_stop TERM
sed -i 's/boot-id:[0-9a-f]*/boot-id:00000000/' "$STATE/workloads/shop_held.yaml"
daemon_start || exit 1
becomes "... nor is one of another boot" forgotten held

# ---- bypass ----

sample() { in_ns node curl -s -m $((10 * FACTOR)) http://127.0.0.1:15020/metrics | sed -n "s/^$1 //p"; }
answers() { echo "$(curl_from intruder http://10.78.0.12/private) $(curl_from frontend http://10.78.0.12/private)"; }
add shop/late --netns "$LATE" --label app=caged >/dev/null
same "api refuses the one in the kernel and the other in the proxy" "000 403" "$(answers)"
is_told "bypass says until when" 0 "^shop/api is bypassed until 20.*Z" bypass shop/api --for 10m --reason 'is it shunt?'
same "... and both pass" "200 200" "$(answers)"
same "... over IPv6 too" 200 "$(curl_from intruder 'http://[fd00:78::12]/private')"
until=$(date -d "$(status_of api .bypassUntil)" +%s)
holds "... status says until when" [ $((until - $(date +%s))) -gt 300 ]
holds "... the log says why" grep -q 'workload shop/api: BYPASSED for 600 s.*is it shunt?' "$TMP/shuntd.log"
same "... a metric counts it" 1 "$(sample shunt_workloads_bypassed)"
same "... another is judged meanwhile" 000 "$(curl_from late http://10.78.0.99:83/)"
is_told "--end ends it" 0 "" bypass shop/api --end
same "... both are refused again" "000 403" "$(answers)"
same "... and nothing shows it" "null 0" "$(status_of api .bypassUntil) $(sample shunt_workloads_bypassed)"
shunt_ workload bypass shop/late --for 10m >/dev/null
same "what a bypassed workload itself asks passes" "200 200" \
	"$(curl_from late http://10.78.0.99:83/) $(curl_from late http://10.78.0.99/private)"
shunt_ workload bypass shop/late --for 1s >/dev/null
becomes "it ends by itself, in the kernel" refuses late http://10.78.0.99:83/
becomes "... and in the log" grep -q "workload shop/late: the bypass has ended" "$TMP/shuntd.log"
same "... in status and metrics" "null 0" "$(status_of late .bypassUntil) $(sample shunt_workloads_bypassed)"
is_told "nothing is bypassed for ever" 2 "at most 24h" bypass shop/api --for 25h
is_told "... nor for no time" 2 "one of --for and --end" bypass shop/api
is_told "... nor nobody" 1 "no such workload" bypass shop/nobody --for 1m
same "... the daemon says the same, whoever asks" false "$(ask_daemon 'bypass?namespace=shop&name=api&seconds=86401' | jq .ok)"
shunt_ workload bypass shop/api --for 10m >/dev/null
daemon_stop TERM
same "with the daemon away a bypass holds" "200 200" "$(answers)"
daemon_start || exit 1
same "... and with the next one" "200 200" "$(answers)"
becomes "... which shows it" sample_is shunt_workloads_bypassed 1
same "... until the same time" 1 "$(($(date -d "$(status_of api .bypassUntil)" +%s) - $(date +%s) > 300))"
shunt_ workload bypass shop/api --for $((6 * FACTOR))s >/dev/null
daemon_stop KILL
same "after kill -9 a bypass holds" "200 200" "$(answers)"
becomes "... until its time is over" refuses intruder http://10.78.0.12/private
same "... for all" "000 000" "$(answers)"
daemon_start || exit 1
same "... with the next daemon all is as before" "000 403" "$(answers)"
add shop/held --pid "$HELD" --label app=caged >/dev/null
shunt_ workload bypass shop/held --for 10m >/dev/null
shunt_ workload remove shop/held >/dev/null
add shop/held --pid "$HELD" --label app=caged >/dev/null
same "removed and added again, it is not bypassed any more" "null 403" "$(status_of held .bypassUntil) $(held http://10.78.0.99/private)"
finish
