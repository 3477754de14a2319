# SPDX-License-Identifier: Apache-2.0
# Egress slots are a resource: one workload's share, all of them, those that nobody claims; then
# 100,000 connections one after the other, and as many at once as descriptors allow.
. "$(dirname "$0")/lib.sh"
MANY=$B/test/peer/many
ulimit -n 20000 2>/dev/null # the daemon's, by which it says how many connections it takes at once
box_up "slots-$$"
if [ ! -x "$MANY" ]; then
	not_ok "the peers are built" "run make peers"
	finish
fi
start_in api "$B/test/peer/answerd" 80
wait_listening api 80
start_in api "$B/test/peer/answerd" 7000
wait_listening api 7000

slots() { shunt_ status | grep -o '[0-9]* of [0-9]* slots in use'; }
wait_slots() { # TEXT: what slots() says in the end
	local tries=$((50 * FACTOR))
	until [ "$(slots)" = "$1" ] || [ $tries -eq 0 ]; do
		tries=$((tries - 1))
		sleep 0.1
	done
	slots
}
share() { shunt_ status -o json | jq ".workloads[] | select(.name == \"$1\") | .slots"; }
documents() { # [MORE]: for frontend; http rules on port 80 for frontend and intruder
	config_write <<-'DOC'
	apiVersion: cilium.io/v2
	kind: CiliumNetworkPolicy
	metadata: {name: api, namespace: shop}
	spec:
	  endpointSelector: {matchLabels: {app: api}}
	  ingress:
	  - fromEndpoints: [{matchExpressions: [{key: app, operator: In, values: [frontend, intruder]}]}]
	    toPorts: [{ports: [{port: "80", protocol: TCP}], rules: {http: [{method: GET}]}}]
	  - fromEndpoints: [{matchLabels: {app: frontend}}]
	    toPorts: [{ports: [{port: "7000", protocol: TCP}]}]
	DOC
	sed -i "/name: frontend,/{n;s/spec:/spec:\n  ${1:-onUnavailable: deny}/}" "$TMP/config/conf.d/10-workloads.yaml"
}
hold() { # NAMESPACE ADDRESS N: as a coprocess; how they were opened is in $HELD
	coproc HOLD { in_ns "$1" "$MANY" hold "$2" 80 "$3"; }
	HOLD_PID=$!
	HOLD_FDS=("${HOLD[@]}")
	read -r HELD <&"${HOLD_FDS[0]}"
}
hold_ask() { # one request on each; the answers
	local answers
	echo >&"${HOLD_FDS[1]}"
	read -r answers <&"${HOLD_FDS[0]}"
	echo "$answers"
}
hold_end() {
	eval "exec ${HOLD_FDS[1]}>&-"
	wait "$HOLD_PID" 2>/dev/null
}

# ---- one workload's share ----

OPTIONS='slots: 256
slotsPerWorkload: 32'
documents
daemon_start || exit 1
for address in 10.78.0.12 fd00:78::12; do
	url=http://$address/a
	[ "$address" = 10.78.0.12 ] || url="http://[$address]/a"
	documents "onUnavailable: deny"
	shunt_ reload >/dev/null
	hold frontend "$address" 32
	same "a workload may hold its share of connections ($address)" "200=32" "$HELD"
	same "... status shows it" "32 of 256 slots in use, 32 its own" "$(slots), $(share frontend) its own"
	before=$(metric 'shunt_kernel_denials_total{reason="slots_quota"}')
	same "... the next is refused" 7 "$(curl_status frontend "$url")"
	same "... another workload is not concerned" 200 "$(curl_from intruder "$url")"
	documents "onUnavailable: allow"
	shunt_ reload >/dev/null
	same "... with onUnavailable: allow too: it does not pass unjudged" "7 0" \
		"$(curl_status frontend "$url") $(metric shunt_passed_unjudged_total)"
	same "... both were counted" $((before + 2)) "$(metric 'shunt_kernel_denials_total{reason="slots_quota"}')"
	same "... and those that are held are alive" "200=32" "$(hold_ask)"
	hold_end
	same "when they are closed nothing is in use" "0 of 256 slots in use" "$(wait_slots "0 of 256 slots in use")"
	same "... and it connects again" "200, 0" "$(curl_from frontend "$url"), $(share frontend)"
done
recorded "the refusal has its record" \
	'.reason == "slots_quota" and .verdict == "denied" and .errno == "ECONNREFUSED" and ."src.workload" == "frontend" and ."dst.workload" == "api" and .comm == "curl"'

# ---- slots that nobody claims ----

# The client takes no answer to its SYN (it wants a TTL that nobody sends), so that nothing is
# ever accepted; then it goes away.
cat >"$TMP/unclaimed.py" <<'PY'
import socket, sys
IP_MINTTL = 21
held = []
for _ in range(int(sys.argv[1])):
    s = socket.socket()
    s.setsockopt(socket.IPPROTO_IP, IP_MINTTL, 255)
    s.setblocking(False)
    s.connect_ex(("10.78.0.12", 80))
    held.append(s)
PY
in_ns frontend python3 "$TMP/unclaimed.py" 32
same "connections that never come take their workload's share only" "32 7 200" \
	"$(share frontend) $(curl_status frontend http://10.78.0.12/a) $(curl_from intruder http://10.78.0.12/a)"
# Three minutes later, by the stamps: bytes 32 to 39 of a slot.
cat >"$TMP/age.py" <<'PY'
import json, struct, subprocess, sys
pin = sys.argv[1]
dump = json.loads(subprocess.check_output(["bpftool", "-j", "map", "dump", "pinned", pin]))
for element in dump:
    value = bytearray(int(b, 16) for b in element["value"])
    stamp = struct.unpack_from("<Q", value, 32)[0]
    if value[0] != 1 or stamp == 0:
        continue
    struct.pack_into("<Q", value, 32, max(1, stamp - 180 * 10**9))
    text = lambda data: [("0x%02x" % b) for b in data]
    subprocess.check_call(["bpftool", "map", "update", "pinned", pin, "key"] +
                          [b for b in element["key"]] + ["value"] + text(value))
PY
python3 "$TMP/age.py" "$BPFFS/shunt/${BOX#shunt-}/v2/slots"
same "... and are swept after three minutes" "0 of 256 slots in use" "$(wait_slots "0 of 256 slots in use")"
same "... then it connects again" "200, 0" "$(curl_from frontend http://10.78.0.12/a), $(share frontend)"
daemon_detach

# ---- all of them ----

OPTIONS='slots: 256
slotsPerWorkload: 256'
documents "onUnavailable: allow"
daemon_start || exit 1
hold frontend 10.78.0.12 300
same "more than there are slots: some are refused, none passes ($HELD)" "256 of 256 slots in use, 0" \
	"$(slots), $(metric shunt_passed_unjudged_total)"
same "... the others of the node too" 7 "$(curl_status intruder http://10.78.0.12/a)"
same "... what needs no slot does not notice" 200 "$(curl_from frontend http://10.78.0.12:7000/a)"
recorded "... for that reason" '.reason == "slots_full" and ."src.workload" == "intruder"'
same "... and those that are held are alive" "200=256" "$(hold_ask)"
hold_end
same "when they are closed nothing is in use" "0 of 256 slots in use" "$(wait_slots "0 of 256 slots in use")"
same "... and everybody connects again" "200 200" \
	"$(curl_from frontend http://10.78.0.12/a) $(curl_from intruder http://10.78.0.12/a)"
daemon_detach

# ---- one after the other ----

# Without a log: it would be several hundred MB. What it costs is load.sh's.
OPTIONS="workers: 2"
documents
sed -i 's|^accessLog:.*|accessLog: {path: off}|' "$TMP/config/shunt.yaml"
daemon_start || exit 1

CLIENTS=4
shorts() { # N: by several clients at once; how they ended, summed
	local pids=() i
	: >"$TMP/shorts"
	for i in $(seq $CLIENTS); do
		in_ns frontend "$MANY" short 10.78.0.12 80 $(($1 / CLIENTS)) >>"$TMP/shorts" &
		pids+=($!)
	done
	wait "${pids[@]}"
	tr ' ' '\n' <"$TMP/shorts" | awk -F= '{n[$1] += $2} END {for (w in n) printf "%s=%d\n", w, n[w]}' | sort | paste -sd' '
}
rss() { awk '/^RssAnon/ {print $2}' "/proc/$DAEMON/status"; } # KiB
cpu() { awk '{print $14 + $15}' "/proc/$DAEMON/stat"; } # ticks
TENTH=$((10000 / FACTOR / CLIENTS * CLIENTS))
shorts 4000 >/dev/null # pools and caches are filled
wait_slots "0 of 65536 slots in use" >/dev/null
fds_before=$(fds)
rss_before=$(rss)
total=0
costs=()
for _ in $(seq 10); do
	before=$(cpu)
	ends=$(shorts $TENTH)
	costs+=($(($(cpu) - before)))
	if [ "$ends" = "200=$TENTH" ]; then
		total=$((total + TENTH))
	else
		echo "# $ends"
	fi
done
same "$((10 * TENTH)) connections, one after the other: none fails" $((10 * TENTH)) $total
# Ticks of the daemon's CPU time, a hundredth of a second each: told, and held to what no noise
# reaches.
same "... the last does not cost what the first did not (CPU per tenth, in ticks: ${costs[*]})" 1 \
	$((costs[9] < 5 * costs[0] + 10))
same "... no slot is left over" "0 of 65536 slots in use, 0" "$(wait_slots "0 of 65536 slots in use"), $(share frontend)"
fds_after=$(fds)
holds "... no descriptor ($fds_before -> $fds_after)" [ "$fds_after" -le $((fds_before + 8)) ]
rss_after=$(rss)
# AddressSanitizer keeps what was freed for a while.
grep -q __asan_init "$SHUNTD" ||
	holds "... no memory ($rss_before -> $rss_after KiB)" [ "$rss_after" -le $((rss_before + 3000)) ]

# ---- all at once ----

# Two descriptors of the daemon are one connection, and one workload gets 7/8 of all.
LIMIT=$(prlimit --pid "$DAEMON" --nofile --output HARD --noheadings | tr -d ' ')
FIT=$(((7 * ((LIMIT - 1000) / 2) + 7) / 8))
hold frontend 10.78.0.12 $FIT
same "$FIT connections at once are all served" "200=$FIT" "$HELD"
same "... and are as many slots" "$FIT of 65536 slots in use" "$(slots)"
same "... others are served meanwhile" "200 200" \
	"$(curl_from intruder 'http://[fd00:78::12]/a') $(curl_from frontend http://10.78.0.12:7000/a)"
holds "... one more of its own is not" [ "$(curl_status frontend http://10.78.0.12/a)" -ne 0 ]
in_ns intruder "$MANY" hold 10.78.0.12 80 1200 </dev/null >"$TMP/beyond"
holds "of more than there is room for some are served, the others refused at once ($(cat "$TMP/beyond"))" \
	grep -q '200=[1-9]' "$TMP/beyond"
holds "... with an end that says so" bash -c "grep -qE '503=|ECONNRESET=|closed=|ECONNREFUSED=' $TMP/beyond && ! grep -q EAGAIN $TMP/beyond"
same "... while all that are held stay alive" "200=$FIT" "$(hold_ask)"
hold_end
same "when they are closed nothing is in use" "0 of 65536 slots in use" "$(wait_slots "0 of 65536 slots in use")"
tries=$((50 * FACTOR))
until [ "$(fds)" -le $((fds_after + 24)) ] || [ $tries -eq 0 ]; do
	tries=$((tries - 1))
	sleep 0.1
done
last=$(fds)
holds "... nor a descriptor ($fds_after -> $last)" [ "$last" -le $((fds_after + 24)) ]
same "... and everybody is served" "200=100 200" \
	"$(in_ns frontend "$MANY" short fd00:78::12 80 100) $(curl_from intruder http://10.78.0.12/a)"
finish
