# SPDX-License-Identifier: Apache-2.0
# Connections that stop being HTTP: websocket by Upgrade, and CONNECT. A rule that allows the
# request allows what it becomes; HTTP/2 it never becomes.
. "$(dirname "$0")/lib.sh"
box_up "upgrade-$$"
config_write <<'DOC'
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: api, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: api}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: frontend}}]
    toPorts:
    - ports: [{port: "8080", protocol: TCP}, {port: "3128", protocol: TCP}, {port: "80", protocol: TCP}]
      rules:
        http:
        - {method: GET, path: "/public/.*"}
        - {method: CONNECT, host: "web\\.test:80"}
DOC
nginx_start api 80
# Debian's python, which has Debian's websockets.
start_in api /usr/bin/python3 test/peer/websocket.py serve 8080
start_in api python3 test/peer/forward.py 3128 127.0.0.1 80
wait_listening api 8080
wait_listening api 3128
daemon_start || exit 1

ws() { in_ns frontend timeout $((30 * FACTOR)) /usr/bin/python3 test/peer/websocket.py ask "$1" 2>&1 | paste -sd' '; }
for host in 10.78.0.12 '[fd00:78::12]'; do
	same "a websocket works ($host)" "text hello megabyte True pong closed 1000" "$(ws "ws://$host:8080/public/ws")"
	recorded "... its record is one of a request with status 101" \
		'.type == "request" and .status == 101 and .path == "/public/ws" and .request_body_bytes > 1048576 and .response_body_bytes > 1048576'
	recorded "... and its time is t_open" '.status == 101 and .t_open > .t_total / 2'
	recorded "... its connection is one of HTTP, with all its bytes" \
		".type == \"connection\" and .conn_id == $(jq .conn_id "$TMP/record") and .protocol == \"HTTP/1.1\" and
		 .accel_reason == \"l7\" and .bytes_sent > 1048576 and .bytes_recv > 1048576"
	same "a websocket that no rule allows is 403 ($host)" "status 403" "$(ws "ws://$host:8080/private/ws")"
	recorded "... its record names the policy" '.status == 403 and .reason == "policy_l7" and .policy == "shop/api"'
done
same "a request for HTTP/2 is answered in HTTP/1.1" "200 1.1" \
	"$(in_ns frontend curl -s -m 10 --http2 -o /dev/null -w '%{http_code} %{http_version}' http://10.78.0.12/public/a)"

through() { in_ns frontend curl -s -m $((10 * FACTOR)) -p -x http://10.78.0.12:3128 -o "$TMP/body" -w '%{http_connect} %{http_code}' "$@"; }
same "a CONNECT that a rule allows opens a tunnel" "200 200" "$(through http://web.test/anything)"
same "... to where its proxy says" "api GET /anything from 127.0.0.1" "$(cat "$TMP/body")"
recorded "... its record has its authority" \
	'.method == "CONNECT" and .status == 200 and .authority == "web.test:80" and .response_body_bytes > 0'
recorded "... its connection is one of HTTP" \
	".type == \"connection\" and .conn_id == $(jq .conn_id "$TMP/record") and .protocol == \"HTTP/1.1\""
same "a CONNECT to elsewhere is 403" "403 000" "$(through http://other.test/)"
recorded "... its record says policy_l7" '.method == "CONNECT" and .status == 403 and .reason == "policy_l7"'
same "a CONNECT that the server refuses is its answer" "400 000" \
	"$(in_ns frontend curl -s -m 10 -p -x http://10.78.0.12:80 -o /dev/null -w '%{http_connect} %{http_code}' http://web.test/)"

# A tunnel outlives a reload, and has no clock but its own.
coproc KEPT { in_ns frontend python3 -c 'import socket
s = socket.create_connection(("10.78.0.12", 3128))
s.sendall(b"CONNECT web.test:80 HTTP/1.1\r\nHost: web.test:80\r\n\r\n")
print(s.recv(4096).split()[1].decode(), flush=True)
input()
s.sendall(b"GET /later HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
data = b""
while True:
    got = s.recv(4096)
    if not got: break
    data += got
print(data.split()[1].decode(), flush=True)'; }
read -r -t $((10 * FACTOR)) line <&"${KEPT[0]}"
same "a tunnel is open" 200 "$line"
shunt_ --name "${BOX#shunt-}" reload >/dev/null
echo go >&"${KEPT[1]}"
read -r -t $((10 * FACTOR)) line <&"${KEPT[0]}"
same "... and goes on after a reload" 200 "$line"
wait "$KEPT_PID" 2>/dev/null

finish
