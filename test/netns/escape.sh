# SPDX-License-Identifier: Apache-2.0
# Nothing escapes while the daemon restarts or other labels come into force: clients that
# may not, or may not this, try all the while, and not one of them gets through.
. "$(dirname "$0")/lib.sh"
box_up "escape-$$"
nginx_start api 80
config_write <test/netns/policy.yaml
daemon_start || exit 1

cat >"$TMP/knock.py" <<'PY'
# knock.py ADDRESS PATH READY: connects and asks as fast as it can until killed; counts by answer
import collections, signal, socket, sys
ends = collections.Counter()
def stop(*_):
    print(" ".join("%s=%d" % e for e in sorted(ends.items())), flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
while True:
    try:
        s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)
        s.settimeout(5)
        s.connect((sys.argv[1], 80))
        s.sendall(b"GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % sys.argv[2].encode())
        head = s.recv(4096)
        ends[head.split()[1].decode() if head else "closed"] += 1
    except OSError as e:
        ends[type(e).__name__] += 1
    s.close()
    if sum(ends.values()) == 20:
        open(sys.argv[3], "w").close()
PY
knockers() { # starts them; their counts land in $TMP/knock-*
	KNOCKERS=()
	local who
	for who in outside:10.78.0.12 intruder:10.78.0.12 intruder:fd00:78::12 frontend:10.78.0.12; do
		nsenter --net="/run/netns/$BOX-${who%%:*}" python3 "$TMP/knock.py" "${who#*:}" /private \
			"$TMP/ready-${#KNOCKERS[@]}" >"$TMP/knock-${who%%:*}-${#KNOCKERS[@]}" 2>&1 &
		KNOCKERS+=($!)
		PIDS+=($!)
	done
	local tries=$((200 * FACTOR))
	until [ "$(find "$TMP" -name 'ready-*' | wc -l)" -eq ${#KNOCKERS[@]} ] || [ $tries -eq 0 ]; do
		tries=$((tries - 1))
		sleep 0.05
	done
}
silence() { # stops them and judges
	local pid f
	for pid in "${KNOCKERS[@]}"; do
		kill "$pid"
		wait "$pid" 2>/dev/null
	done
	for f in "$TMP"/knock-*; do
		same "... nobody got through: ${f##*/knock-} ($(cat "$f"))" "" "$(grep -o '200=.*' "$f")"
		holds "... and it did knock" grep -q '=[0-9][0-9]' "$f"
	done
	rm -f "$TMP"/knock-* "$TMP"/ready-*
}

knockers
for how in KILL TERM KILL TERM KILL; do
	daemon_stop $how
	daemon_start || exit 1
done
ok "five restarts while four clients knock"
silence
same "it serves afterwards" 200 "$(curl_from frontend http://10.78.0.12/public/a)"

knockers
for round in $(seq 20); do
	sed -i "s/labels: {app: api.*}/labels: {app: api, round: \"$round\"}/; s/labels: {app: frontend.*}/labels: {app: frontend, round: \"$round\"}/" \
		"$TMP/config/conf.d/10-workloads.yaml"
	shunt_ reload >/dev/null || not_ok "reload $round"
done
ok "twenty reloads with other labels at both ends while four clients knock"
silence
same "it serves afterwards" 200 "$(curl_from frontend http://10.78.0.12/public/a)"
# The same workloads under other names, and their namespaces under another path.
mkdir "$TMP/paths"
ln -s /run/netns "$TMP/paths/one"
ln -s /run/netns "$TMP/paths/two"
knockers
for round in $(seq 30); do
	path=$TMP/paths/one
	[ $((round % 2)) -eq 0 ] && path=$TMP/paths/two
	sed -i "s|netns:[^\"]*/$BOX-|netns:$path/$BOX-|; s/name: api[-a-z0-9]*,/name: api-$round,/" \
		"$TMP/config/conf.d/10-workloads.yaml"
	shunt_ reload >/dev/null || not_ok "reload $round"
done
ok "thirty reloads with other names and paths while four clients knock"
silence
same "it serves afterwards" 200 "$(curl_from frontend http://10.78.0.12/public/a)"

# A restart that cannot open every namespace: who is not served is refused, not let through.
knockers
: >"$TMP/short.log"
# Upwards, until three were short at the right moment: after the start, before the workloads.
limit=112
while [ $limit -lt 300 ] && [ "$(grep -c 'not enrolled: .*Too many open files' "$TMP/short.log")" -lt 6 ]; do
	limit=$((limit + 4))
	daemon_stop KILL
	(
		ulimit -n "$limit"
		exec nsenter --net="/run/netns/$BOX-node" "$SHUNTD" --config "$TMP/config" \
			--name "${BOX#shunt-}" --run-dir "$RUN" --state-dir "$TMP/state" \
			--bpffs "$BPFFS"
	) </dev/null >>"$TMP/short.log" 2>&1 &
	DAEMON=$!
	sleep 0.7
done
daemon_stop KILL
silence
holds "... although some of them were not opened" grep -q "not enrolled: .*Too many open files" "$TMP/short.log"
daemon_start || exit 1
same "it serves afterwards" 200 "$(curl_from frontend http://10.78.0.12/public/a)"

sleep 1
same "no slot of the daemons before is left over" "0 of 65536 slots in use" \
	"$(shunt_ status | grep -o '[0-9]* of [0-9]* slots in use')"

# An address that a workload gives itself makes it nobody else.
in_ns intruder ip addr add 10.78.0.11/32 dev lo
in_ns intruder ip addr add 10.78.0.1/32 dev lo
sleep 1.5
same "an address taken on does not make a frontend" 7 \
	"$(in_ns intruder curl -s -m 5 --interface 10.78.0.11 http://10.78.0.12/public/a >/dev/null; echo $?)"
same "... nor the host" 7 "$(in_ns intruder curl -s -m 5 --interface 10.78.0.1 http://10.78.0.12/public/a >/dev/null; echo $?)"
same "... and the host stays who it is" 200 "$(curl_from node http://10.78.0.12/private)"
same "... and the true frontend stays who it is" 200 "$(curl_from frontend http://10.78.0.12/public/a)"
finish
