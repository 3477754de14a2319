# SPDX-License-Identifier: Apache-2.0
# SIGTERM: who is being answered is answered, who is idle is told, who comes is turned away; and
# nobody waits longer than drainTimeout.
. "$(dirname "$0")/lib.sh"
box_up "drain-$$"
config() { # DRAIN-TIMEOUT deny|allow
	OPTIONS="drainTimeout: $1
onUnavailable: $2
workers: 2" config_write <test/netns/policy.yaml
	outside_is_frontend
}

# A server behind nginx that answers when it is told to: `hold` owes its head, `stream` its body
# but for the first bytes, until the file `go` is there.
cat >"$TMP/upstream.py" <<'PY'
import http.server, os, socketserver, sys, time
class Held(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def until(self, name):
        for _ in range(6000):
            if os.path.exists(sys.argv[1] + "/" + name): return
            time.sleep(0.01)
    def do_GET(self):
        if "hold" in self.path: self.until("go")
        self.send_response(200)
        self.send_header("Content-Length", "200000")
        self.end_headers()
        self.wfile.write(b"x" * 100000); self.wfile.flush()
        if "stream" in self.path: self.until("go")
        self.wfile.write(b"y" * 100000)
    def log_message(self, *_): pass
class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 100
Server(("127.0.0.1", 9000), Held).serve_forever()
PY
start_in api python3 "$TMP/upstream.py" "$TMP"
mkdir "$TMP/nginx"
cat >"$TMP/nginx/nginx.conf" <<CONF
daemon off; worker_processes 1; pid $TMP/nginx/pid; error_log $TMP/nginx/error.log;
events { worker_connections 2048; }
http {
  access_log off; keepalive_requests 1000000;
  client_body_temp_path $TMP/nginx/b; proxy_temp_path $TMP/nginx/p; fastcgi_temp_path $TMP/nginx/f;
  uwsgi_temp_path $TMP/nginx/u; scgi_temp_path $TMP/nginx/s;
  server {
    listen 80 backlog=4096; listen [::]:80 backlog=4096;
    location / { return 200 "api \$request_uri\n"; }
    location /public/hold { proxy_buffering off; proxy_pass http://127.0.0.1:9000; }
    location /public/stream { proxy_buffering off; proxy_pass http://127.0.0.1:9000; }
  }
}
CONF
chmod 755 "$TMP" "$TMP/nginx"
start_in api nginx -c "$TMP/nginx/nginx.conf" -e "$TMP/nginx/error.log"
wait_listening api 80
wait_listening api 9000

# An echo server on the port that opaque.sh explains: direct by the policy, proxied by hand.
cat >"$TMP/echo.py" <<'PY'
import socket, threading
s = socket.socket(socket.AF_INET6); s.setsockopt(1, 2, 1); s.bind(("::", 7000)); s.listen(50)
def serve(c):
    try:
        while b := c.recv(65536): c.sendall(b)
    except OSError: pass
    c.close()
while True:
    c, _ = s.accept(); threading.Thread(target=serve, args=(c,), daemon=True).start()
PY
start_in api python3 "$TMP/echo.py"
wait_listening api 7000

# kept.py: one request, then idle; says how the connection ended.
cat >"$TMP/kept.py" <<'PY'
import http.client
c = http.client.HTTPConnection("10.78.0.12", 80, timeout=60)
c.request("GET", "/public/kept"); c.getresponse().read()
print("kept", flush=True)
try: print("FIN" if c.sock.recv(1) == b"" else "bytes", flush=True)
except ConnectionResetError: print("RST", flush=True)
PY
# queue.py N: N connections that ask at once and wait; their answers' first lines, counted.
cat >"$TMP/queue.py" <<'PY'
import collections, socket, sys
all = [socket.create_connection(("10.78.0.12", 80), 30) for _ in range(int(sys.argv[1]))]
for s in all: s.sendall(b"GET /public/queued HTTP/1.1\r\nHost: a\r\n\r\n")
print("asked", flush=True)
ends = collections.Counter()
for s in all:
    try: ends[s.recv(4096).split(b"\r\n")[0].decode() or "closed"] += 1
    except OSError as e: ends[type(e).__name__] += 1
print(*("%dx %s" % (n, e) for e, n in ends.items()), flush=True)
PY
# busy.py N: N clients that ask all the while, until killed, up to 20 times on a connection (each
# third of them once); each answer must be whole. `raced`: a kept connection ended before a byte
# of the answer, and the request, asked again on a new one, was answered.
cat >"$TMP/busy.py" <<'PY'
import collections, http.client, signal, sys, threading
ends = collections.Counter(); lock = threading.Lock(); stop = False
def end(*_):
    global stop
    stop = True
signal.signal(signal.SIGTERM, end)
def ask(c, i):
    c.request("GET", "/public/%d" % i)
    r = c.getresponse(); body = r.read()
    return "ok" if r.status == 200 and body == b"api /public/%d\n" % i else "wrong"
def client(most):
    c = http.client.HTTPConnection("10.78.0.12", 80, timeout=30)
    i = 0
    while not stop:
        i += 1
        if i % most == 0: c.close()
        kept = c.sock is not None
        try:
            how = ask(c, i)
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError) as e:
            c.close()
            how = "failed:" + type(e).__name__
            if kept:
                try: how = "raced" if ask(c, i) == "ok" else "wrong"
                except Exception as e: c.close(); how = "again:" + type(e).__name__
        except Exception as e:
            c.close(); how = "failed:" + type(e).__name__
        with lock: ends[how] += 1
threads = [threading.Thread(target=client, args=(20 if n % 3 else 1,)) for n in range(int(sys.argv[1]))]
for t in threads: t.start()
for t in threads: t.join()
print(*("%s=%d" % e for e in sorted(ends.items())), flush=True)
PY
# echo-client.py: what comes back of each line of its standard input, and how it ended.
cat >"$TMP/echo-client.py" <<'PY'
import select, socket, sys
s = socket.create_connection(("10.78.0.12", 7000)); s.settimeout(60)
while True:
    ready, _, _ = select.select([s, sys.stdin], [], [], 60)
    if s in ready:
        try: b = s.recv(100)
        except ConnectionResetError: print("RST", flush=True); break
        if not b: print("FIN", flush=True); break
        print(b.decode().strip(), flush=True)
    if sys.stdin in ready:
        line = sys.stdin.readline()
        if not line: break
        s.sendall(line.encode())
PY
log_says() { grep -qE -- "$1" "$TMP/shuntd.log"; }
ready() { in_ns node curl -s -m 5 -o /dev/null -w '%{http_code}' http://127.0.0.1:15021/healthz/ready; }
# client OUTPUT COMMAND...: in the background, in $FROM or frontend; its pid is in $CLIENT.
client() {
	local output=$1
	shift
	nsenter --net="/run/netns/$BOX-${FROM:-frontend}" "$@" <&0 >"$TMP/$output" 2>&1 &
	CLIENT=$!
	PIDS+=("$CLIENT")
}
# held NAME: asks for it, and returns when the server is at it; `go` lets it go on.
held() {
	rm -f "$TMP/$1.body" "$TMP/$1.head"
	client "$1" curl -s -m $((60 * FACTOR)) -D "$TMP/$1.head" -o "$TMP/$1.body" "http://10.78.0.12/public/$1"
	if [ "$1" = hold ]; then
		wait_until in_ns api sh -c 'ss -Htn state established "dport = :9000" | grep -q .'
	else
		wait_until test -s "$TMP/$1.body"
	fi
}
# opaque_open: an opaque connection, once it has echoed; opaque_echo WORD: does it go on?
opaque_open() {
	force_proxy 7000
	rm -f "$TMP/say" "$TMP/heard"
	mkfifo "$TMP/say"
	exec 7<>"$TMP/say"
	client heard python3 "$TMP/echo-client.py" <&7
	opaque_echo open
}
opaque_echo() {
	echo "$1" >&7
	wait_until grep -sqx "$1" "$TMP/heard"
}
daemon_is_gone() { ! kill -0 "$DAEMON" 2>/dev/null; }
daemon_ended() { # SENTENCE: it ends by itself, with 0
	local status="it runs on"
	if wait_until daemon_is_gone; then
		wait "$DAEMON"
		status=$?
	else
		kill -9 "$DAEMON"
		wait "$DAEMON" 2>/dev/null
	fi
	DAEMON=
	same "$1" 0 "$status"
}
again() { # DRAIN-TIMEOUT deny|allow: another daemon, with a log of its own
	cat "$TMP/shuntd.log" >>"$TMP/shuntd.log.old" 2>/dev/null
	: >"$TMP/shuntd.log"
	rm -f "$TMP/go"
	config "$1" "$2"
	daemon_start || exit 1
}

# ---- one SIGTERM, for everybody ----
again 30s deny
same "readiness says 200 while it serves" 200 "$(ready)"
held hold
holding=$CLIENT
held stream
streaming=$CLIENT
client kept python3 "$TMP/kept.py"
holds "a request is held, one streams, a kept connection is idle" wait_until grep -q kept "$TMP/kept"
holds "... and an opaque one is open" opaque_open
kill -TERM "$DAEMON"
wait_until grep -q 'FIN\|RST\|bytes' "$TMP/kept"
same "SIGTERM ends the idle connection by FIN" "kept FIN" "$(paste -sd' ' "$TMP/kept")"
same "... readiness says 503 while it drains" 503 "$(ready)"
for to in 10.78.0.12 '[fd00:78::12]'; do
	in_ns frontend curl -s -m 5 "http://$to/public/a" >/dev/null
	same "... new connections are refused ($to)" 7 $?
done
holds "... the opaque connection goes on" opaque_echo on
shunt_ reload >"$TMP/reload" 2>&1
same "... a reload is refused" 1 $?
holds "... and told why" grep -q 'the daemon is stopping' "$TMP/reload"
holds "... the log says what it waits for" log_says 'draining [34] connections, for 30 s at most'
touch "$TMP/go"
wait "$holding"
same "the request that was being answered is answered whole" "0 200000" "$? $(stat -c %s "$TMP/hold.body")"
holds "... with Connection: close" grep -qi '^connection: close' "$TMP/hold.head"
wait "$streaming"
same "the one whose answer had begun, too" "0 200000" "$? $(stat -c %s "$TMP/stream.body")"
kill "$CLIENT"
daemon_ended "with the last connection the daemon ends, status 0"
in_ns node curl -s -m 5 http://127.0.0.1:15021/healthz/ready >/dev/null
same "... readiness is refused then" 7 $?
recorded "... the held request has its record" '.path == "/public/hold" and .status == 200 and .response_body_bytes == 200000'
recorded "... the idle connection ended by shutdown" '.type == "connection" and .reason == "shutdown" and .protocol == "HTTP/1.1"'
holds "... the log says that links stay pinned" log_says 'stopping on signal 15; links stay pinned'
in_ns frontend curl -s -m 5 http://10.78.0.12/public/a >/dev/null
same "... and they do" 7 $?

# ---- who waits to be accepted ----
again 30s deny
kill -STOP "$DAEMON"
client queue python3 "$TMP/queue.py" 40
wait_until grep -q asked "$TMP/queue"
kill -TERM "$DAEMON"
kill -CONT "$DAEMON"
wait "$CLIENT"
same "those who waited to be accepted when it was told to stop are served" "40x HTTP/1.1 200 OK" "$(tail -n 1 "$TMP/queue")"
daemon_ended "... then it ends"

# A SYN that stands behind other packets of a slow lo: its connect() was captured before.
slow="a connection whose SYN is on its way when it is told to stop is served"
again 30s deny
if in_ns frontend tc qdisc add dev lo root tbf rate 16kbit burst 2000 latency 60s 2>/dev/null; then
	in_ns frontend python3 -c '
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("127.0.0.1", 0))
for _ in range(3): s.sendto(b"x" * 1200, s.getsockname())'
	client way curl -s -m $((30 * FACTOR)) -o /dev/null -w '%{http_code}' http://10.78.0.12/public/way
	wait_until in_ns frontend sh -c 'ss -Htn state syn-sent | grep -q 15001'
	kill -TERM "$DAEMON"
	wait "$CLIENT"
	in_ns frontend tc qdisc del dev lo root
	same "$slow" 200 "$(cat "$TMP/way")"
else
	skip "$slow" "this kernel has no token bucket filter"
	kill -TERM "$DAEMON"
fi
daemon_ended "... then it ends"

# ---- the limit ----
again 1s allow
opaque_open
kill -TERM "$DAEMON"
same "allow: while it drains new connections are direct" 200 "$(curl_from frontend http://10.78.0.12/private)"
daemon_ended "drainTimeout ends it although a connection is open"
wait_until grep -q 'FIN\|RST' "$TMP/heard"
same "... that one is reset" RST "$(tail -n 1 "$TMP/heard")"
recorded "... its reason is shutdown" '.protocol == "TCP" and .reason == "shutdown"'
holds "... the log says so" log_says '1 connections? w(as|ere) still open after drainTimeout'
same "allow: after its end they are direct" 200 "$(curl_from frontend http://10.78.0.12/private)"
again 0s deny
held hold
kill -TERM "$DAEMON"
wait "$CLIENT"
holds "drainTimeout: 0s cuts what is open (curl: $?)" [ $? -ne 0 ]
daemon_ended "... and ends at once"
recorded "... its record says shutdown" '.path == "/public/hold" and .reason == "shutdown"'

# ---- a second signal ----
for signal in TERM INT; do
	again 30s deny
	opaque_open
	kill -$signal "$DAEMON"
	holds "SIG$signal drains" wait_until log_says 'draining 1 connection'
	holds "... the opaque connection goes on" opaque_echo on
	kill -$signal "$DAEMON"
	daemon_ended "... a second one stops it at once"
	wait_until grep -q 'FIN\|RST' "$TMP/heard"
	same "... the connection is reset" RST "$(tail -n 1 "$TMP/heard")"
	holds "... the log says so" log_says 'stopping now, on a second signal'
done

# ---- detach while it drains ----
again 30s deny
opaque_open
kill -TERM "$DAEMON"
wait_until log_says 'draining 1 connection'
holds "shunt detach while it drains succeeds" shunt_ --name "${BOX#shunt-}" detach --bpffs "$BPFFS"
daemon_ended "... it ends"
same "... no pin is left" "" "$(find "$BPFFS/shunt" -mindepth 1 2>/dev/null)"
same "... traffic is direct" 200 "$(curl_from intruder http://10.78.0.12/private)"

# ---- under load ----
again 30s allow
client busy python3 "$TMP/busy.py" 9
local=$CLIENT
FROM=outside client busy-remote python3 "$TMP/busy.py" 9
remote=$CLIENT
for round in 1 2 3 4 5 6; do
	sleep 0.4
	kill -TERM "$DAEMON"
	daemon_ended "stopped under load ($round)"
	sleep 0.1
	again 30s allow
done
kill "$local" "$remote"
wait "$local" "$remote"
for busy in busy busy-remote; do
	holds "nine clients ask all the while ($busy: $(cat "$TMP/$busy"))" grep -q 'ok=[0-9][0-9][0-9]' "$TMP/$busy"
	same "... who asks again when a kept connection ends sees no failure" "" \
		"$(grep -oE '(failed|again|wrong)[^ ]*|Traceback' "$TMP/$busy")"
done
same "... and the last daemon serves" 403 "$(curl_from frontend http://10.78.0.12/private)"
finish
