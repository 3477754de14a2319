# SPDX-License-Identifier: Apache-2.0
# A connection of any bytes while it lasts (how it ends is closes.sh): options of both legs, small
# writes, large transfers, urgent data, back-pressure, hours of silence in small.
. "$(dirname "$0")/lib.sh"
box_up "stream-$$"
config_write <test/netns/bytes.yaml
daemon_start || exit 1
force_proxy 7002

# peer.py server PORT... | WORD ADDRESS PORT [ARGUMENT]: the client's first byte says which part
# of the program both ends play.
cat >"$TMP/peer.py" <<'PY'
import hashlib, os, random, socket, sys, threading, time
LIMIT = 60 * int(os.environ.get("FACTOR", "1"))
SIZE = 50 * 1000 * 1000

def said(s, n):
    b = b""
    while len(b) < n:
        more = s.recv(n - len(b))
        if not more: break
        b += more
    return b

def give(s, seed):                       # SIZE bytes in pieces of any length, then the end
    r, h, left = random.Random(seed), hashlib.sha256(), SIZE
    while left:
        piece = r.randbytes(min(left, int(2 ** r.uniform(0, 18))))
        s.sendall(piece); h.update(piece); left -= len(piece)
    s.shutdown(socket.SHUT_WR)
    return h.hexdigest()

def take(s, seed):
    r, h, n = random.Random(seed), hashlib.sha256(), 0
    while True:
        piece = s.recv(int(2 ** r.uniform(0, 18)))
        if not piece: return h.hexdigest() + (" whole" if n == SIZE else " %d" % n)
        h.update(piece); n += len(piece)

def both(s, own, other):                 # at once
    sent = []
    t = threading.Thread(target=lambda: sent.append(give(s, own))); t.start()
    got = take(s, other); t.join()
    return sent[0], got

def until_full(s):
    s.setblocking(False); quiet = n = 0
    while quiet < 20:
        try: n += s.send(bytes(32768)); quiet = 0
        except BlockingIOError: quiet += 1; time.sleep(0.005)
    return n

held = []
def serve(s):
    word = s.recv(1)
    if word == b"p":                     # a byte for two
        while len(said(s, 2)) == 2: s.sendall(b".")
    elif word == b"t":
        sent, got = both(s, 1, 2)
        open(os.environ["TMP"] + "/server.sums", "w").write(sent + " " + got)
    elif word in b"uU":
        if word == b"U": s.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        s.sendall(b"+"); got = b""
        while True:
            b = s.recv(100)
            if not b: break
            got += b
        s.sendall(got)
    elif word == b"h":                   # the client's half is closed: hours later
        silence = float(said(s, 4)); s.recv(1); time.sleep(silence); s.sendall(b"late")
    elif word == b"H":                   # ours is
        s.shutdown(socket.SHUT_WR)
        got = said(s, 4); open(os.environ["TMP"] + "/server.late", "w").write(got.decode())
    elif word == b"e":
        s.sendall(said(s, 4))
    elif word == b"s":                   # nobody reads
        held.append(s); until_full(s); return
    s.close()

def server():
    def listen(port):
        l = socket.socket(socket.AF_INET6); l.setsockopt(1, 2, 1); l.bind(("::", port)); l.listen(500)
        while True:
            c, _ = l.accept(); threading.Thread(target=serve, args=(c,), daemon=True).start()
    for port in sys.argv[2:]: threading.Thread(target=listen, args=(int(port),)).start()

def dial(word):
    s = socket.create_connection((sys.argv[2], int(sys.argv[3])), LIMIT); s.settimeout(LIMIT)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    s.sendall(word); return s

def pingpong():                          # write, write, read; the writes are two segments
    s = dial(b"p"); n = 0
    for _ in range(30):
        s.sendall(b"a"); time.sleep(0.002); s.sendall(b"b"); n += len(s.recv(1))
    print(n)

def transfer(): print(*both(dial(b"t"), 2, 1))

def urgent(word=b"u"):
    s = dial(word); said(s, 1)
    s.sendall(b"abc"); s.send(b"!", socket.MSG_OOB); time.sleep(0.1); s.sendall(b"def")
    s.shutdown(socket.SHUT_WR); print(said(s, 100).decode())

def urgent_inline(): urgent(b"U")

def silence():
    wait = float(sys.argv[4])
    a = dial(b"h%04d" % wait); a.shutdown(socket.SHUT_WR)
    b, c = dial(b"H"), dial(b"e")
    ended = b.recv(1)
    time.sleep(wait)
    b.sendall(b"late"); b.close(); c.sendall(b"echo")
    print(said(a, 9).decode(), ended.decode() or "end", said(c, 9).decode())

def stopped():
    ends = [dial(b"s") for _ in range(int(sys.argv[4]))]
    for t in [threading.Thread(target=until_full, args=(s,)) for s in ends]: t.start()
    for t in threading.enumerate():
        if t is not threading.current_thread(): t.join()
    print("full", flush=True); sys.stdin.readline()

globals()[sys.argv[1]]()
PY
export TMP FACTOR
start_in api python3 "$TMP/peer.py" server 7001 7002
wait_listening api 7001
wait_listening api 7002
wait_file() {
	local tries=$((100 * FACTOR))
	until [ -s "$1" ] || [ $tries -eq 0 ]; do
		tries=$((tries - 1))
		sleep 0.05
	done
}
peer() { # WORD ADDRESS PORT [ARGUMENT]
	in_ns frontend python3 "$TMP/peer.py" "$@" 2>&1
}

# ---- silence, beside all that follows ----

# Five seconds more than the longest limit there is (requestHeadTimeout, 30 s), nothing shortened.
peer silence 10.78.0.12 7002 35 >"$TMP/silence" &
silence=$!

# ---- the options of both legs ----

cat >"$TMP/options.py" <<'PY'
# options.py PID: TCP_NODELAY and keep-alive of a process's connected sockets, each kind once
import ctypes, os, socket, sys
libc = ctypes.CDLL(None)
pid = int(sys.argv[1]); handle = os.pidfd_open(pid); seen = {}
OPTIONS = ((6, socket.TCP_NODELAY), (1, socket.SO_KEEPALIVE), (6, socket.TCP_KEEPIDLE),
           (6, socket.TCP_KEEPINTVL), (6, socket.TCP_KEEPCNT))
LEGS = {"127.64.": "accepted", "127.128": "dialled"}
for name in os.listdir("/proc/%d/fd" % pid):
    if not os.readlink("/proc/%d/fd/%s" % (pid, name)).startswith("socket:"): continue
    s = socket.socket(fileno=libc.syscall(438, handle, int(name), 0))   # pidfd_getfd
    leg = LEGS.get(s.getsockname()[0][:7]) if s.family == socket.AF_INET else None
    if leg: seen.setdefault(leg, set()).add(",".join(str(s.getsockopt(*o)) for o in OPTIONS))
print(*("%s:%s" % (leg, "|".join(sorted(seen[leg]))) for leg in sorted(seen)))
PY
tries=$((100 * FACTOR))
until [ "$(metric shunt_connections)" -ge 3 ] || [ $tries -eq 0 ]; do
	tries=$((tries - 1))
	sleep 0.05
done
same "both legs send at once and are kept alive (180 s, then 9 times)" \
	"accepted:1,1,180,180,9 dialled:1,1,180,180,9" "$(python3 "$TMP/options.py" "$DAEMON")"

# ---- what goes over it ----

# With Nagle's algorithm on a leg of ours the second byte would wait for the delayed
# acknowledgement of the first, which the kernel counts.
delayed() { in_ns api nstat -asz TcpExtDelayedACKs | awk '/Delayed/ {print $2}'; }
before=$(delayed)
same "two small writes and a read, 30 times" 30 "$(peer pingpong 10.78.0.12 7002)"
after=$(($(delayed) - before))
holds "... of which few wait for a delayed acknowledgement ($after)" [ $after -lt 15 ]

for address in 10.78.0.12 fd00:78::12; do
	rm -f "$TMP/server.sums"
	read -r sent got much < <(peer transfer $address 7002)
	wait_file "$TMP/server.sums"
	same "50 MB there and 50 MB back at once, in pieces of any length ($address)" \
		"$sent whole $got whole" "$(awk '{print $2, $3}' "$TMP/server.sums") $(awk '{print $1}' "$TMP/server.sums") $much"
done

# The urgent byte is not in the stream of who does not ask for it; who asks does not get it from us.
same "urgent data is not in the stream, direct" "abcdef" "$(peer urgent 10.78.0.12 7001)"
same "... nor proxied" "abcdef" "$(peer urgent 10.78.0.12 7002)"
same "with SO_OOBINLINE it is, direct" "abc!def" "$(peer urgent_inline 10.78.0.12 7001)"
same "... but not proxied: shuntd(8) says so" "abcdef" "$(peer urgent_inline 10.78.0.12 7002)"

# ---- the end of the silence ----

wait "$silence"
same "after a half of it was closed, either one, or neither, silence ends no connection" \
	"late end echo" "$(cat "$TMP/silence")"
wait_file "$TMP/server.late"
same "... nor what the client says late" "late" "$(cat "$TMP/server.late")"

# ---- readers that stop ----

# Small buffers in the kernel, so that 200 times both directions is no burden; ours are the same.
for name in frontend api; do
	in_ns $name sysctl -qw net.ipv4.tcp_rmem="4096 32768 65536" net.ipv4.tcp_wmem="4096 32768 65536"
done
rss() { awk '/^VmRSS/ {print $2}' "/proc/$DAEMON/status"; }
before=$(rss)
mkfifo "$TMP/go"
peer stopped 10.78.0.12 7002 200 <"$TMP/go" >"$TMP/stopped" &
stopped=$!
exec 3>"$TMP/go"
tries=$((600 * FACTOR))
until grep -q full "$TMP/stopped" || [ $tries -eq 0 ]; do
	tries=$((tries - 1))
	sleep 0.05
done
same "200 connections are full in both directions" "full 200" "$(cat "$TMP/stopped") $(metric shunt_connections)"
grown=$(($(rss) - before))
if grep -q libasan "/proc/$DAEMON/maps"; then
	skip "what stopped readers cost" "AddressSanitizer keeps what was freed"
else
	# And what a connection costs without a byte: less than 8 KiB; some pages of all together.
	holds "... and cost at most 64 KiB for each direction ($grown KiB)" [ $grown -le $((200 * (2 * 64 + 8) + 256)) ]
	holds "... which they do use" [ $grown -ge $((200 * 64)) ]
fi
exec 3>&-
wait "$stopped"
finish
