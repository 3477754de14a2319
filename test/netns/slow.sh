# SPDX-License-Identifier: Apache-2.0
# Two thousand slow clients of one workload: heads byte by byte, bodies byte by byte, answers that
# nobody reads. Honest ones of the same workload and of another are answered meanwhile.
. "$(dirname "$0")/lib.sh"
MANY=$B/test/peer/many
if [ ! -x "$MANY" ]; then
	not_ok "the peers are built" "run make peers"
	finish
fi
HEADS=1200 BODIES=400 READERS=400
MAY_BEGIN=1000 MAY_WAIT=8388608
box_up "slow-$$"
OPTIONS="workers: 2
headsPerWorkload: $MAY_BEGIN
bufferPerWorkload: $MAY_WAIT"
config_write <<'DOC'
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: api, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: api}}
  ingress:
  - fromEndpoints: [{matchExpressions: [{key: app, operator: In, values: [frontend, intruder]}]}]
    toPorts: [{ports: [{port: "80", protocol: TCP}], rules: {http: [{method: "GET|POST"}]}}]
DOC
daemon_start || exit 1
# Small buffers in the kernel: what the slow ones leave there is no burden.
for name in frontend api; do
	in_ns $name sysctl -qw net.ipv4.tcp_rmem="4096 32768 65536" net.ipv4.tcp_wmem="4096 32768 65536"
done

cat >"$TMP/server.py" <<'PY'
# /big: a megabyte; POST: how many bytes came; all else: ok
import asyncio, resource
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
BIG = bytes(1000000)

async def serve(r, w):
    try:
        while True:
            head = await r.readuntil(b"\r\n\r\n")
            lines = head.lower().split(b"\r\n")
            size = sum(int(l.split(b":")[1]) for l in lines if l.startswith(b"content-length"))
            for at in range(0, size, 65536): await r.readexactly(min(65536, size - at))
            body = BIG if b" /big " in lines[0] else b"%d" % size if size else b"ok"
            w.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            await w.drain()
    except (asyncio.IncompleteReadError, ConnectionError): pass
    finally: w.close()

async def main():
    s = await asyncio.start_server(serve, ["0.0.0.0", "::"], 80, backlog=4096)
    await s.serve_forever()
asyncio.run(main())
PY
cat >"$TMP/slow.py" <<'PY'
# slow.py ADDRESS HEADS BODIES READERS STATE: keeps as many open, adds a byte to each now and then;
# STATE is rewritten: how many are open, how many heads were refused with 408 so far
import os, resource, socket, sys, time
address, state = sys.argv[1], sys.argv[5]
wanted = dict(zip(("head", "body", "reader"), map(int, sys.argv[2:5])))
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
BEGIN = {"head": b"G", "body": b"POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n",
         "reader": b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n"}
REST = b"ET /slow HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 100000
open_, refused = {kind: [] for kind in wanted}, 0

def begin(kind):
    s = socket.create_connection((address, 80), 30)
    s.setblocking(False); s.send(BEGIN[kind])
    return [s, 0]

def go_on(kind, it):                         # False: it has ended
    global refused
    s, n = it
    try:
        if kind != "reader":
            if kind == "head" or n == 0: s.send(REST[n:n + 1])
            it[1] = n + 1
            said = s.recv(100)
            refused += said.startswith(b"HTTP/1.1 408 ")
            return False
        return True
    except BlockingIOError: return True
    except OSError: return False

while True:
    for kind, ends in open_.items():
        ended = [it for it in ends if not go_on(kind, it)]
        for it in ended: it[0].close(); ends.remove(it)
        while len(ends) < wanted[kind]: ends.append(begin(kind))
    with open(state + ".new", "w") as f: print(sum(map(len, open_.values())), refused, file=f)
    os.rename(state + ".new", state)
    time.sleep(0.2)
PY
start_in api python3 "$TMP/server.py"
wait_listening api 80
rss() { awk '/^RssAnon/ {print $2}' "/proc/$DAEMON/status"; } # KiB
settled() { [ "$(metric shunt_connections)" -eq "$1" ]; }
before=$(rss)

start_in frontend python3 "$TMP/slow.py" 10.78.0.12 $HEADS $BODIES $READERS "$TMP/slow.state"
SLOW=$STARTED
all_there() { [ "$(cut -d' ' -f1 "$TMP/slow.state" 2>/dev/null)" = $((HEADS + BODIES + READERS)) ]; }
full() { [ "$(metric shunt_buffered_bytes)" -ge $MAY_WAIT ]; }
holds "$((HEADS + BODIES + READERS)) slow clients are there" wait_until all_there
holds "... and their workload's buffers are full" wait_until full

# ---- honest ones ----

most_bytes=0 most_heads=0
look() {
	local bytes heads
	bytes=$(metric shunt_buffered_bytes) heads=$(metric shunt_unfinished_heads)
	[ "$bytes" -le $most_bytes ] || most_bytes=$bytes
	[ "$heads" -le $most_heads ] || most_heads=$heads
}
head -c 1000000 /dev/zero >"$TMP/upload"
honest() { # WORKLOAD: four at once, short connections and kept ones; then a megabyte each way
	local pids=() i
	for i in 1 2 3 4; do
		in_ns "$1" "$MANY" short 10.78.0.12 80 250 >"$TMP/honest.$i" &
		pids+=($!)
	done
	look
	wait "${pids[@]}"
	cat "$TMP"/honest.? | sort | uniq -c | awk '{print $1 "x" $2}' | paste -sd' '
	yes | head -n 20 | in_ns "$1" "$MANY" hold 10.78.0.12 80 20 | sort | uniq -c | awk '{print $1 "x" $2}'
	in_ns "$1" curl -s -m $((60 * FACTOR)) -o "$TMP/body" -w '%{http_code} %{size_download}\n' http://10.78.0.12/big
	in_ns "$1" curl -s -m $((60 * FACTOR)) -o "$TMP/body" -w '%{http_code} ' \
		--data-binary "@$TMP/upload" -H 'Expect:' http://10.78.0.12/up
	cat "$TMP/body"
}
expected='4x200=250
21x200=20
200 1000000
200 1000000'
for round in 1 2; do
	honest frontend >"$TMP/honest"
	same "honest ones of the same workload are all answered, round $round" "$expected" "$(cat "$TMP/honest")"
	look
	honest intruder >"$TMP/honest"
	same "... and those of another" "$expected" "$(cat "$TMP/honest")"
	look
done
holds "the slow ones are still there" all_there
grown=$(($(rss) - before))
refused=$(cut -d' ' -f2 "$TMP/slow.state")

# ---- what they cost ----

# A turn or two of each worker may go beyond, and 4 KiB for each who has nothing else.
bound=$((MAY_WAIT + 4 * 65536 + (BODIES + READERS + 30) * 4096))
holds "at most bufferPerWorkload waits, and 4 KiB of each ($most_bytes of $bound bytes)" \
	[ "$most_bytes" -le $bound ]
holds "at most headsPerWorkload are unfinished ($most_heads)" [ "$most_heads" -le $((MAY_BEGIN + 2)) ]
holds "the oldest were refused with 408 ($refused)" [ "$refused" -ge $((HEADS - MAY_BEGIN)) ]
recorded "... and the record says why" \
	'.type == "request" and .status == 408 and .reason == "heads_quota" and ."src.workload" == "frontend"'
holds "... and a metric" [ "$(metric 'shunt_ends_total{type="request",reason="heads_quota"')" -ge $((HEADS - MAY_BEGIN)) ]
holds "reads were held back, which a metric counts" [ "$(metric shunt_reads_held_back_total)" -gt 0 ]
same "no other workload was concerned" "" "$(jq -c 'select(.reason == "heads_quota" and ."src.workload" != "frontend")' "$LOG")"
if grep -q libasan "/proc/$DAEMON/maps"; then
	skip "what slow clients cost" "AddressSanitizer keeps what was freed"
else
	# The buffers grow by doubling; and what each costs without a byte.
	holds "they cost little memory ($grown KiB)" [ "$grown" -le $((2 * bound / 1024 + 2100 * 16)) ]
fi
# Those that were refused dial again: for a moment they may be fewer.
says_what_it_has() {
	shunt_ status -o json | jq -e ".workloads[] | select(.name == \"frontend\") |
		.connections >= $((HEADS + BODIES + READERS)) and .unfinishedHeads > 0 and .bufferedBytes > 0" >/dev/null
}
holds "status says what the workload has" wait_until says_what_it_has

kill "$SLOW"
wait "$SLOW" 2>/dev/null
holds "they leave" wait_until settled 0
same "... and nothing of theirs stays" "0 0" "$(metric shunt_buffered_bytes) $(metric shunt_unfinished_heads)"
finish
