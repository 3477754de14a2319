# SPDX-License-Identifier: Apache-2.0
# Opaque TCP through the proxy (see force_proxy in lib.sh).
. "$(dirname "$0")/lib.sh"
box_up "opaque-$$"
config_write <test/netns/policy.yaml
daemon_start || exit 1

force_proxy 7000

cat >"$TMP/server.py" <<'PY'
import socket, sys, threading
s = socket.socket(socket.AF_INET6); s.setsockopt(1, 2, 1); s.bind(("::", 7000)); s.listen(50)
def serve(c):
    c.sendall(b"hello first\n")          # the server speaks first
    got = b""
    while True:
        b = c.recv(65536)
        if not b: break
        got += b
    if got == b"reset":
        c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    else:
        c.sendall(b"got %d\n" % len(got)) # after the client's half is closed
    c.close()
while True:
    c, _ = s.accept(); threading.Thread(target=serve, args=(c,), daemon=True).start()
PY
start_in api python3 "$TMP/server.py"
wait_listening api 7000
cat >"$TMP/client.py" <<'PY'
import socket, sys
s = socket.create_connection((sys.argv[1], 7000)); s.settimeout(10)
f = s.makefile("rb")
print(f.readline().decode().strip())
s.sendall(b"x" * int(sys.argv[2])); s.shutdown(socket.SHUT_WR)
print(f.readline().decode().strip(), f.read() == b"")
PY
before=$(metric shunt_captured_connections_total)
for a in 10.78.0.12 fd00:78::12; do
	same "the server speaks first, half-close works both ways ($a)" "hello first|got 5000000 True" \
		"$(in_ns frontend python3 "$TMP/client.py" $a 5000000 | paste -sd'|')"
done
same "... through the proxy" $((before + 2)) "$(metric shunt_captured_connections_total)"
recorded "the connection's record has its bytes" \
	'.type == "connection" and .protocol == "TCP" and .bytes_sent == 5000000 and .bytes_recv == 24 and .reason == "closed_by_source" and .t_open > 0'
cat >"$TMP/reset.py" <<'PY'
import socket
s = socket.create_connection(("10.78.0.12", 7000)); s.settimeout(10)
s.recv(12); s.sendall(b"reset"); s.shutdown(socket.SHUT_WR)
try: print(s.recv(10))
except OSError as x: print(type(x).__name__)
PY
same "the client closes its half, and the server resets" ConnectionResetError "$(in_ns frontend python3 "$TMP/reset.py")"
recorded "... which the record says, not who was first" \
	'.type == "connection" and .bytes_sent == 5 and .reason == "reset_by_destination" and .response_flags == "UR"'
kill "${PIDS[0]}"
wait "${PIDS[0]}" 2>/dev/null
same "nobody there any more: refused at once, as without us" "ConnectionRefusedError" \
	"$(in_ns frontend python3 "$TMP/client.py" 10.78.0.12 1 2>&1 | tail -n 1 | cut -d: -f1)"
recorded "... and the record says why" '.protocol == "TCP" and .reason == "nobody_listens" and .verdict != "denied"'
finish
