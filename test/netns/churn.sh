# SPDX-License-Identifier: Apache-2.0
# Namespaces that come and go, one after the other and many at once: nothing of them stays in
# the daemon or in the kernel. A thousand, or as many as a minute has; ROUNDS=1000 insists.
. "$(dirname "$0")/lib.sh"
box_up "churn-$$"
OPTIONS="workers: 2"
: "${HELD:=200}"
config_write <test/netns/policy.yaml
daemon_start || exit 1

come() { ip netns add "$BOX-$1" && ip -n "$BOX-$1" link set lo up; }
add() { shunt_ workload add "shop/$1" --netns "/run/netns/$BOX-$1" --label app=frontend >/dev/null; }
remove() { shunt_ workload remove "shop/$1" >/dev/null; }

pins() { find "$BPFFS/shunt" -name "$1" | wc -l; }
entries() { bpftool -j map dump pinned "$BPFFS/shunt/${BOX#shunt-}/v2/$1" | jq length; }
descriptors() { find "/proc/$DAEMON/fd" -mindepth 1 2>/dev/null | wc -l; }
namespaces() { find "/proc/$DAEMON/fd" -lname 'net:*' 2>/dev/null | wc -l; }
states() { shunt_ workload list -o json | jq -r "map(select(.state == \"$1\")) | length"; }
resident() { awk '/^VmRSS/ {print $2}' "/proc/$DAEMON/status"; } # KiB
charged() { cat "$(cgroup_root)/$BOX/memory.current" 2>/dev/null; } # bytes, the kernel's part too
routes() { in_ns frontend ip -6 route show table local | grep -c fd73; }
# What a round could leave behind.
left() {
	echo "descriptors=$(descriptors) namespaces=$(namespaces) pins=$(pins '*') doors=$(pins 'inbound_*')" \
		"places=$(entries places) addresses=$(entries addresses)" \
		"kept=$(find "$TMP/state/workloads" -type f | wc -l) routes=$(routes)" \
		"cgroups=$(find "$(cgroup_root)/$BOX" -type d | wc -l) workloads=$(shunt_ workload list -o json | jq length)"
}
eventually() {
	local tries=$((400 * FACTOR))
	until "$@"; do
		tries=$((tries - 1))
		[ $tries -gt 0 ] || return 1
		sleep 0.05
	done
}
# The daemon may be closing what we have just asked it by.
is_left() {
	LEFT=$(left)
	[ "$LEFT" = "$1" ]
}
now() { date +%s%N; }
each() { echo "$((($2 - $1) / $3 / 1000)) us"; }

# ---- one after the other ----

failed=0
round() {
	come round || failed=$((failed + 1))
	add round || failed=$((failed + 1))
	remove round || failed=$((failed + 1))
	ip netns del "$BOX-round"
}
# rounds MOST: at most ROUNDS, or as many as a minute has where nobody insists.
rounds() {
	local most=${ROUNDS:-1000} until=$((SECONDS + 60 * FACTOR))
	for ((done = 0; done < $1 && done < most; done++)); do
		[ -n "${ROUNDS:-}" ] || [ $SECONDS -lt $until ] || break
		round
	done
}
rounds 50 # what is allocated once
before=$(left)
resident_before=$(resident)
start=$(now)
rounds 1000000
end=$(now)
[ -n "${ROUNDS:-}" ] || [ $done -eq 1000 ] || echo "# a minute was over before 1000 rounds"
same "$done namespaces come, are captured, released and go" 0 "$failed"
echo "# $(each "$start" "$end" "$done") for a round: four commands of ip, two of shunt, and the daemon"
eventually is_left "$before"
same "... nothing of them is left" "$before" "$LEFT"
grown=$(($(resident) - resident_before))
if ldd "$SHUNTD" | grep -qE 'lib[at]san'; then
	skip "... the daemon has not grown" "a sanitizer keeps what is freed"
else
	echo "# the daemon has $(resident) KiB, $grown KiB more"
	holds "... the daemon has not grown by more than 2 MiB" [ $grown -lt 2048 ]
fi

# ---- many at once ----

for ((i = 0; i < HELD; i++)); do come held$i || failed=$((failed + 1)); done
before=$(left)
resident_before=$(resident) charged_before=$(charged)
start=$(now)
for ((i = 0; i < HELD; i++)); do add held$i || failed=$((failed + 1)); done
end=$(now)
same "$HELD workloads are added" "0 $((HELD + 3))" "$failed $(states captured)"
echo "# $(each "$start" "$end" "$HELD") for each command, the last one $(shunt_ workload add shop/held0 --netns "/run/netns/$BOX-held0" --label app=frontend)"
echo "# each takes $((($(resident) - resident_before) * 1024 / HELD)) bytes of the daemon${charged_before:+, $((($(charged) - charged_before) / HELD)) bytes with what the kernel has for it}"
# One that goes on listening in a namespace without a name. (Of all namespaces of this machine
# the registry has the ports, hence the cookie.)
start_in held7 nc -lk 8000
wait_listening held7 8000
cookie=$(in_ns held7 python3 -c 'import socket; print(socket.socket().getsockopt(socket.SOL_SOCKET, 71, 8)[::-1].hex())')
ports() {
	bpftool -j map dump pinned "$BPFFS/shunt/${BOX#shunt-}/v2/ports" |
		jq -r '.[].key[:8] | reverse | map(.[2:]) | join("")' | grep -c "$cookie"
}
same "the registry has what one of them listens on" 1 "$(ports)"
start=$(now)
for ((i = 0; i < HELD; i++)); do ip netns del "$BOX-held$i"; done
all_gone() { [ "$(namespaces) $(states captured)" = "$1" ]; }
holds "all deleted, the daemon lets go of all" eventually all_gone "$(sed 's/.*namespaces=\([0-9]*\).*/\1/' <<<"$before") 3"
echo "# $(each "$start" "$(now)" 1) after the first was deleted"
kill "$STARTED"
wait "$STARTED" 2>/dev/null
same "... and of a port when nobody listens there any more" 0 "$(ports)"
same "... they stay added, for when they are there again" "$HELD" "$(states absent)"
for ((i = 0; i < HELD; i++)); do remove held$i || failed=$((failed + 1)); done
eventually is_left "$before"
same "... until they are removed" "0 $before" "$failed $LEFT"
finish
