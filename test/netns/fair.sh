# SPDX-License-Identifier: Apache-2.0
# Deficit round robin as the daemon does it, by its own system calls: in no round does a workload
# that sends all it can move more than its share, and a quiet one's turn comes before the rest of
# what others had left. Counts, no times.
. "$(dirname "$0")/lib.sh"
box_up "fair-$$"
OPTIONS="workers: 2"
config_write <<'DOC'
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: api, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: api}}
  ingress:
  - fromEndpoints: [{matchExpressions: [{key: app, operator: In, values: [frontend, intruder]}]}]
    toPorts: [{ports: [{port: "7000", protocol: TCP}]}]
DOC
daemon_start || exit 1
force_proxy 7000

cat >"$TMP/peer.py" <<'PY'
# peer.py server | loud ADDRESS N | quiet ADDRESS N
import socket, sys, threading, time

def serve(c):                                # L: read and forgotten; Q: comes back
    while True:
        try: b = c.recv(1 << 18)
        except ConnectionError: return
        if not b: return
        if b[:1] == b"Q": c.sendall(b)

def server():
    l = socket.socket(socket.AF_INET6); l.setsockopt(1, 2, 1); l.bind(("::", 7000)); l.listen(100)
    while True: threading.Thread(target=serve, args=(l.accept()[0],), daemon=True).start()

def dial(): return socket.create_connection((sys.argv[2], 7000), 30)

def loud():
    def one(s, block=b"L" * (1 << 20)):
        while True: s.sendall(block)
    for _ in range(int(sys.argv[3])): threading.Thread(target=one, args=(dial(),)).start()

def quiet():
    ends = [dial() for _ in range(int(sys.argv[3]))]
    while True:
        for s in ends:
            s.sendall(b"Q"); s.recv(1)
        time.sleep(0.005)

globals()[sys.argv[1]]()
PY
# What a worker did between two waits is a round (uv's own wait, at its end, moves nothing). Printed:
# the most that the loud one moved in a round; rounds in which it had all of its share; turns of the
# quiet ones; those of them that came behind what the loud one had left from the round before.
cat >"$TMP/rounds.py" <<'PY'
import re, sys
QUANTUM = 128 * 1024                         # IO_QUANTUM
begun, rounds = {}, {}
most = full = turns = late = 0
for line in open(sys.argv[1], errors="replace"):
    tid, what = line.split(None, 1)
    if "<unfinished ...>" in what: begun[tid] = what.split("<unfinished")[0]; continue
    resumed = re.match(r"<\.\.\. \w+ resumed>(.*)", what)
    if resumed: what = begun.pop(tid, "") + resumed[1]
    call = re.match(r"(\w+)\(.*\)\s+= (-?\d+)", what)
    if not call: continue
    now = rounds.setdefault(tid, {"loud": 0, "before": 0})
    n = int(call[2])
    if call[1].startswith("epoll"):
        most = max(most, now["loud"]); full += now["loud"] >= QUANTUM
        rounds[tid] = {"loud": 0, "before": now["loud"] or (now["before"] if n == 0 else 0)}
    elif n > 0 and ', "L' in what: now["loud"] += n
    elif n > 0 and ', "Q' in what and call[1] == "recvfrom":
        turns += 1
        late += now["before"] >= QUANTUM and now["loud"] > 0
print(most, full, turns, late)
PY
start_in api python3 "$TMP/peer.py" server
wait_listening api 7000
start_in intruder python3 "$TMP/peer.py" quiet 10.78.0.12 4
start_in frontend python3 "$TMP/peer.py" loud 10.78.0.12 8
there() { [ "$(metric shunt_connections)" -eq 12 ]; }
holds "eight loud connections of one workload, four quiet ones of another" wait_until there
timeout $((3 * FACTOR)) strace -f -s 1 -e trace=recvfrom,sendto,epoll_wait,epoll_pwait -p "$DAEMON" -o "$TMP/calls" 2>/dev/null
read -r most full turns late < <(python3 "$TMP/rounds.py" "$TMP/calls")
echo "# most $most bytes in a round, $full rounds with a whole share, $turns turns of quiet ones, $late late"
holds "the loud one had its whole share in many rounds, and the quiet ones their turns" \
	[ "$full" -ge 100 -a "$turns" -ge 20 ]
holds "in no round did it move more than IO_QUANTUM and one read or write" \
	[ "$most" -gt 0 -a "$most" -lt $(((128 + 64) * 1024)) ]
# It may have drained all its sockets with the last byte of its share, and be new again itself.
holds "turns of quiet ones come before what the loud one had left ($late of $turns behind)" \
	[ $((late * 10)) -le "$turns" ]
finish
