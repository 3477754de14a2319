# SPDX-License-Identifier: Apache-2.0
# As many connections of any bytes as there are descriptors for: one workload's share, all of them
# by several workloads, one more; and no descriptor left.
. "$(dirname "$0")/lib.sh"
WORKLOADS="frontend api w1 w2 w3 w4 w5"
box_up "crowd-$$"
config_write <<'DOC'
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: api, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: api}}
  ingress:
  - fromEndpoints: [{}]
    toPorts: [{ports: [{port: "7000", protocol: TCP}]}]
DOC
daemon_start || exit 1
force_proxy 7000

cat >"$TMP/peer.py" <<'PY'
# peer.py server | client ADDRESS N: the client is told what to do by lines, and answers by one
import collections, os, resource, select, socket, sys
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

def server():                                # what comes goes back
    l = socket.socket(socket.AF_INET6); l.setsockopt(1, 2, 1); l.bind(("::", 7000)); l.listen(4096)
    l.setblocking(False)
    e = select.epoll(); e.register(l, select.EPOLLIN); ends = {}
    while True:
        for fd, _ in e.poll():
            if fd == l.fileno():
                try:
                    c, _ = l.accept(); c.setblocking(False); ends[c.fileno()] = c
                    e.register(c, select.EPOLLIN)
                except BlockingIOError: pass
                continue
            try: b = ends[fd].recv(4096)
            except ConnectionResetError: b = b""
            if b: ends[fd].send(b)
            else: e.unregister(fd); ends.pop(fd).close()

def ask(s, n):                               # its own number, there and back
    word = b"%08d" % n
    try:
        s.sendall(word); got = b""
        while len(got) < 8:
            more = s.recv(8 - len(got))
            if not more: return "end"
            got += more
        return "ok" if got == word else "wrong"
    except OSError as x: return type(x).__name__

def client():
    address, held, waiting = sys.argv[2], [], []
    limit = 60 * int(os.environ.get("FACTOR", "1"))
    for line in sys.stdin:
        word, n = line.split()[0], int(line.split()[1])
        ends = collections.Counter()
        if word == "open":                   # n more, each asked once they are all there
            new = []
            for _ in range(n):
                try: new.append(socket.create_connection((address, 7000), limit))
                except OSError as x: ends[type(x).__name__] += 1
            for i, s in enumerate(new):
                end = ask(s, i); ends[end] += 1
                if end == "ok": held.append(s)
        elif word == "ask":                  # all that are held
            for i, s in enumerate(held): ends[ask(s, i)] += 1
        elif word == "close":
            for s in held[:n]: s.close()
            ends["closed"] = len(held[:n]); del held[:n]
        elif word == "knock":                # n who only connect, and wait
            for _ in range(n):
                s = socket.socket(); s.setblocking(False); s.connect_ex((address, 7000)); waiting.append(s)
            ends["waiting"] = n
        elif word == "forget":
            for s in waiting: s.close()
            ends["forgotten"] = len(waiting); waiting = []
        print(" ".join("%s=%d" % e for e in sorted(ends.items())), flush=True)

globals()[sys.argv[1]]()
PY
start_in api python3 "$TMP/peer.py" server
wait_listening api 7000
declare -A ORDERS ANSWERS
client() { # WORKLOAD
	local orders answers
	mkfifo "$TMP/orders-$1" "$TMP/answers-$1"
	in_ns "$1" python3 "$TMP/peer.py" client 10.78.0.12 <"$TMP/orders-$1" >"$TMP/answers-$1" &
	exec {orders}>"$TMP/orders-$1" {answers}<"$TMP/answers-$1"
	ORDERS[$1]=$orders
	ANSWERS[$1]=$answers
}
for workload in frontend w1 w2 w3 w4 w5; do
	client $workload
done
tell() { # WORKLOAD WORD N
	local answer=
	echo "$2 $3" >&"${ORDERS[$1]}"
	read -r -t $((100 * FACTOR)) answer <&"${ANSWERS[$1]}"
	echo "$answer"
}
# settled N: the daemon holds N connections, within a bounded time.
settled() {
	local tries=$((200 * FACTOR))
	until [ "$(metric shunt_connections)" -eq "$1" ] || [ $tries -eq 0 ]; do
		tries=$((tries - 1))
		sleep 0.05
	done
	metric shunt_connections
}
ends() { metric "shunt_ends_total{type=\"connection\",reason=\"$1\""; }

# ---- the limit ----

limit=$(awk '/^Max open files/ {print $4}' "/proc/$DAEMON/limits")
max=$(((limit - 1000) / 2))
share() { echo $(((7 * $1 + 7) / 8)); } # what one workload gets of so many
first=$(share $max)
if [ "$first" -lt 8000 ]; then
	skip "8,000 connections of one workload" "the hard limit of descriptors here is $limit"
fi
same "$first connections of one workload are served (of $limit descriptors)" "ok=$first" \
	"$(tell frontend open "$first")"
same "... all of them are in the daemon" "$first $first" "$(settled "$first") $(shunt_ status -o json |
	jq '.workloads[] | select(.name == "frontend") | .connections')"
same "one more is reset" "ConnectionResetError=1" "$(tell frontend open 1)"
recorded "... and the record says why" \
	'.type == "connection" and .reason == "connections_quota" and ."src.workload" == "frontend" and ."dst.workload" == "api"'
same "... and a metric" "1 0" "$(ends connections_quota) $(ends no_descriptors)"
free=$((max - first))
for workload in w1 w2 w3 w4; do
	part=$(share $free)
	same "another workload finds room: $part" "ok=$part" "$(tell $workload open "$part")"
	free=$((free - part))
done
same "together they have all $max" "$max 0" "$(settled $max) $free"
same "one more is reset, whose ever it is" "ConnectionResetError=1" "$(tell w5 open 1)"
recorded "... and the record says why" \
	'.type == "connection" and .reason == "no_descriptors" and ."src.workload" == "w5" and ."dst.workload" == "api"'
same "... and a metric" "1 1" "$(ends connections_quota) $(ends no_descriptors)"
same "the others have not noticed" "ok=$first" "$(tell frontend ask 0)"
tell w1 close 10 >/dev/null
settled $((max - 10)) >/dev/null
same "where some have gone another finds room" "ok=9" "$(tell w5 open 9)"
for workload in w1 w2 w3 w4 w5; do
	tell $workload close $max >/dev/null
done
same "they leave" "$first" "$(settled "$first")"
tell frontend close $((first - 40)) >/dev/null
same "the greedy one too" 40 "$(settled 40)"
same "... and comes again" "ok=10" "$(tell frontend open 10)" # by the lowest numbers: no gap is left

# ---- no descriptor left ----

before=$(ends no_descriptors)
lowest=3 # that is free: with this as the limit there is none
while [ -e "/proc/$DAEMON/fd/$lowest" ]; do
	lowest=$((lowest + 1))
done
prlimit --pid "$DAEMON" --nofile=$lowest:"$limit"
tell frontend knock 300 >/dev/null
timeout 1 strace -f -c -U name,calls -e trace=accept4,epoll_wait,epoll_pwait -p "$DAEMON" -o "$TMP/calls" 2>/dev/null
prlimit --pid "$DAEMON" --nofile="$limit:$limit"
calls() { awk -v c="^$1\$" '$1 ~ c {n += $2} END {printf "%d", n}' "$TMP/calls"; }
accepts=$(calls accept4) waits=$(calls "epoll_p?wait")
# Every 50 ms each of two workers tries, and takes one who waits to refuse it. Each of the 300 is
# accepted once at most; a spin would be many thousands.
holds "while there is none it waits and does not spin ($accepts accept4, $waits epoll_wait in a second)" \
	[ "$accepts" -le 500 -a "$waits" -le 500 ]
same "as soon as there are some again, new ones are served" "ok=20" "$(tell frontend open 20)"
same "... and those from before are" "ok=70" "$(tell frontend ask 0)"
refused=$(($(ends no_descriptors) - before))
holds "... meanwhile $refused were refused, which a metric counts" [ $refused -ge 5 -a $refused -le 300 ]
tell frontend forget 0 >/dev/null
tell frontend close 70 >/dev/null
same "none is left over" 0 "$(settled 0)"
same "... no slot either" "0 of 65536 slots in use" \
	"$(shunt_ status | grep -o '[0-9]* of [0-9]* slots in use')"
for workload in "${!ORDERS[@]}"; do
	orders=${ORDERS[$workload]} answers=${ANSWERS[$workload]}
	exec {orders}>&- {answers}<&-
done
finish
