# SPDX-License-Identifier: Apache-2.0
# What goes wrong behind the proxy, and what the client, the log and the limits make of it: an
# answer with a status while that is possible, an abort after, never one that looks whole.
. "$(dirname "$0")/lib.sh"
box_up "errors-$$"
OPTIONS="connectTimeout: 500ms
responseTimeout: 1s
requestHeadSize: 2048
requestHeadFields: 20
requestTargetSize: 300
requestBodyRate: 1000
maxPipelinedRequests: 4"
config_write <<'DOC'
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: api, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: api}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: frontend}}]
    toPorts:
    - ports: [{port: "80", protocol: TCP}, {port: "8080", protocol: TCP}, {port: "8090", protocol: TCP}, {port: "8091", protocol: TCP}]
      rules: {http: [{path: "/.*"}]}
DOC
nginx_start api 80
start_in api python3 test/peer/breaks.py serve 8080
SERVER=$STARTED
wait_listening api 8080
start_in api python3 test/peer/http.py 8091
wait_listening api 8091
# Its queue is full: nobody accepts, and no further connection gets in.
start_in api python3 -c 'import socket, time
s = socket.socket(); s.bind(("", 8090)); s.listen(0)
kept = [socket.socket() for _ in range(3)]
for k in kept: k.setblocking(False); k.connect_ex(("127.0.0.1", 8090))
time.sleep(600)'
wait_listening api 8090
daemon_start || exit 1

no_server_is_asked() { ! in_ns api ss -Htn state established "sport = :8080" | grep -q .; }
ask() { in_ns frontend timeout 15 python3 test/peer/breaks.py ask 10.78.0.12 8080 "$@"; }

same "a whole answer is whole" "whole-fin 200 whole fin" "$(ask whole-fin)"
for what in nothing status head interim; do
	same "an answer that breaks off before its head is whole is 502 (closed: $what)" \
		"$what-fin 502 whole fin" "$(ask $what-fin)"
	recorded "... its record says upstream_closed, UC" \
		".path == \"/$what-fin\" and .status == 502 and .reason == \"upstream_closed\" and .response_flags == \"UC\""
	same "an answer that breaks off before its head is whole is 502 (reset: $what)" \
		"$what-rst 502 whole fin" "$(ask $what-rst)"
	recorded "... its record says upstream_reset, UC" \
		".path == \"/$what-rst\" and .status == 502 and .reason == \"upstream_reset\" and .response_flags == \"UC\""
done
# Where the head has not left yet, the client sees the reset only.
for row in length-fin length-rst chunks-fin chunks-rst close-rst; do
	reason=upstream_closed
	[ "${row#*-}" = rst ] && reason=upstream_reset
	got=$(ask $row)
	case $got in "$row 200 cut rst" | "$row none rst") ok "content that breaks off is an abort for the client ($row)" ;;
	*) not_ok "content that breaks off is an abort for the client ($row)" "$got" ;;
	esac
	recorded "... its record says $reason, UC" \
		".path == \"/$row\" and .reason == \"$reason\" and .response_flags == \"UC\""
done
same "content that ends with its connection is whole" "close-fin 200 whole fin" "$(ask close-fin)"

# A server that gives a kept connection up when its next request is on its way.
kept='import re, socket, sys
s = socket.create_connection((sys.argv[1], 8091))
def answer():
    data = b""
    while True:
        got = s.recv(4096)
        if not got:
            return "fin"
        data += got
        head, _, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"Content-Length: (\d+)\r", head + b"\r")
        if length and len(body) == int(length[1]):
            return head[9:12].decode()
for target in sys.argv[2:]:
    s.sendall(b"GET /public/%s HTTP/1.1\r\nHost: a\r\n\r\n" % target.encode())
    try:
        print(answer(), end=" ")
    except ConnectionResetError:
        print("rst", end=" ")'
for last in vanish/fin reset/rst; do
	for way in "api 127.0.0.1 direct" "frontend 10.78.0.12 proxied"; do
		read -r from to how <<<"$way"
		same "a kept connection that its server gives up ends so for its client ($how, ${last#*/})" \
			"200 200 ${last#*/} " "$(in_ns "$from" timeout 10 python3 -c "$kept" "$to" a b "${last%/*}")"
	done
	recorded "... its record has no status, and says UC" \
		".path == \"/public/${last%/*}\" and .status == null and .response_flags == \"UC\" and .reused == true"
	same "... on a new connection the same is 502" "502 " \
		"$(in_ns frontend timeout 10 python3 -c "$kept" 10.78.0.12 "${last%/*}")"
done

same "a destination that takes no connection is 504" 504 "$(curl_from frontend http://10.78.0.12:8090/full)"
recorded "... its record says connect_timeout, UF,URX" \
	'.path == "/full" and .status == 504 and .reason == "connect_timeout" and .response_flags == "UF,URX"'
for what in nothing status head interim; do
	same "an answer whose head does not come in time is 504 ($what)" \
		"$what-hold 504 whole fin" "$(ask $what-hold)"
	recorded "... its record says response_timeout, UT, and that the server was waited for" \
		".path == \"/$what-hold\" and .status == 504 and .reason == \"response_timeout\" and
		 .response_flags == \"UT\" and .t_wait > 900000000 and .backend == \"10.78.0.12:8080\""
done
same "... and the server's end of it is closed" "" \
	"$(wait_until no_server_is_asked || in_ns api ss -Htn state established "sport = :8080")"
same "... metrics count it" 4 "$(metric 'shunt_ends_total{type="request",reason="response_timeout"}')"
same "... with Envoy's flag" 4 "$(in_ns node curl -s http://127.0.0.1:15020/metrics |
	awk '/^istio_requests_total/ && /reporter="source"/ && /response_flags="UT"/ && /response_code="504"/ {n += $NF} END {print n + 0}')"
same "an answer that has begun takes as long as it takes" "length-late 200 whole fin" "$(ask length-late)"
upload='import socket, time
s = socket.create_connection(("10.78.0.12", 8091))
s.sendall(b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n")
for i in range(3):
    time.sleep(0.8)
    s.sendall(bytes(20000))
print(s.recv(4096).split()[1].decode())'
same "and so does a request" 200 "$(in_ns frontend timeout $((30 * FACTOR)) python3 -c "$upload")"
kill "$SERVER"
wait "$SERVER" 2>/dev/null
same "a destination that refuses is 503" 503 "$(curl_from frontend http://10.78.0.12:8080/refused)"
recorded "... its record says connect_refused, UF" \
	'.path == "/refused" and .status == 503 and .reason == "connect_refused" and .response_flags == "UF"'

# Limits, as shunt.yaml says them.
repeat() { printf "%$1s" '' | sed "s/ /$2/g"; }
same "a target at its limit passes" 200 "$(curl_from frontend "http://10.78.0.12/$(repeat 299 x)")"
same "a longer target is 414" 414 "$(curl_from frontend "http://10.78.0.12/$(repeat 300 x)")"
recorded "... its record says head_too_large" '.status == 414 and .reason == "head_too_large"'
same "a head above its limit is 431" 431 "$(curl_from frontend -H "X: $(repeat 2000 x)" http://10.78.0.12/)"
recorded "... its record says head_too_large" '.status == 431 and .reason == "head_too_large"'
mapfile -t fields < <(for i in $(seq 20); do printf -- '-H\nX-%s: y\n' "$i"; done)
same "more fields than the limit are 431" 431 "$(curl_from frontend "${fields[@]}" http://10.78.0.12/)"
same "as many as the limit pass" 200 "$(curl_from frontend "${fields[@]:0:34}" http://10.78.0.12/)"
pipeline=$(repeat 9 'GET \/ahead HTTP\/1.1\\r\\nHost: a\\r\\n\\r\\n')
same "requests sent ahead are answered up to the limit" "5 answers, the last says close" \
	"$(printf "$pipeline" | in_ns frontend timeout 10 nc 10.78.0.12 80 |
		awk '/^HTTP\/1.1 200/{n++} /^Connection: close/{last=n} END{printf "%d answers, the %s says close", n, last==n ? "last" : last}')"
recorded "... the connection's record says too_many_pipelined" '.type == "connection" and .reason == "too_many_pipelined"'
trickle='import socket, select
s = socket.create_connection(("10.78.0.12", 8091))
s.sendall(b"POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
while not select.select([s], [], [], 0.2)[0]:
    s.sendall(b"x")
print(s.recv(4096).split()[1].decode())'
same "a body below the rate is 408" 408 "$(in_ns frontend timeout $((30 * FACTOR)) python3 -c "$trickle")"
recorded "... its record says body_too_slow, DT" \
	'.path == "/slow" and .status == 408 and .reason == "body_too_slow" and .response_flags == "DT" and .t_body > 3000000000'

finish
