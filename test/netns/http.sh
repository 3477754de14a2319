# SPDX-License-Identifier: Apache-2.0
# HTTP/1.1 through the proxy: what is allowed arrives, what is refused says so.
. "$(dirname "$0")/lib.sh"
box_up "http-$$"
nginx_start api 80
start_in api python3 test/peer/http.py 8080
wait_listening api 8080
OPTIONS="requestHeadTimeout: 1s" config_write <test/netns/policy.yaml
daemon_start || exit 1

for host in 10.78.0.12 '[fd00:78::12]'; do
	same "an allowed request is answered ($host)" 200 "$(curl_from frontend "http://$host/public/a")"
	same "a method no rule names is refused with 403 ($host)" 403 \
		"$(curl_from frontend -X DELETE "http://$host/public/a")"
	same "the refusal says Access denied ($host)" "Access denied" "$(tr -d '\r' <"$TMP/body")"
	same "a path no rule names is refused ($host)" 403 "$(curl_from frontend "http://$host/private")"
done
curl_from frontend http://10.78.0.12/public/peer >/dev/null
same "the server sees the client's own address" "api GET /public/peer from 10.78.0.11" "$(cat "$TMP/body")"
curl_from frontend 'http://[fd00:78::12]/public/peer' >/dev/null
same "the server sees the client's own IPv6 address" "api GET /public/peer from fd00:78::11" "$(cat "$TMP/body")"
same "the query belongs to the path of a rule" 200 "$(curl_from frontend 'http://10.78.0.12/public/a?x=1')"
same "a query is not a way round a rule" 403 "$(curl_from frontend 'http://10.78.0.12/healthz?/public/a')"
same "a path that another reading takes elsewhere is refused" 403 \
	"$(curl_from frontend --path-as-is 'http://10.78.0.12/public/..%2fprivate')"
recorded "its record names the reading" '.status == 403 and .reading == "lenient"'
same "dot segments do not help" 403 "$(curl_from frontend --path-as-is 'http://10.78.0.12/public/../private')"
same "a header that a rule asks for lets the request pass" 200 \
	"$(curl_from frontend -H 'x-token: let me in' http://10.78.0.12/by-header)"
same "another value of it does not" 403 "$(curl_from frontend -H 'X-Token: no' http://10.78.0.12/by-header)"
same "a host that a rule asks for lets the request pass" 200 \
	"$(curl_from frontend -H 'Host: api.shop' http://10.78.0.12/by-host)"
same "another host does not" 403 "$(curl_from frontend http://10.78.0.12/by-host)"
same "any method token may be named" 200 "$(curl_from frontend -X PURGE http://10.78.0.12:8080/public/a)"

same "HEAD has no body" 200 "$(curl_from frontend -I http://10.78.0.12/public/a)"
same "an upload with a length arrives" 200 \
	"$(head -c 300000 /dev/urandom | tee "$TMP/sent" | curl_from frontend -X POST -H 'Expect:' --data-binary @- http://10.78.0.12:8080/public/upload)"
holds "... byte for byte" cmp -s "$TMP/sent" "$TMP/body"
same "a chunked upload arrives" 200 \
	"$(head -c 3000000 /dev/urandom | tee "$TMP/sent" | curl_from frontend -T - http://10.78.0.12:8080/public/upload)"
holds "... byte for byte" cmp -s "$TMP/sent" "$TMP/body"
recorded "its record counts the content, not the framing" '.method == "PUT" and .request_body_bytes == 3000000'
same "a chunked upload arrives at nginx" 200 \
	"$(head -c 100000 /dev/zero | curl_from frontend -T - http://10.78.0.12/public/upload)"
same "... whole" "got 100000" "$(cat "$TMP/body")"
same "a chunked answer arrives" 200 "$(curl_from frontend http://10.78.0.12:8080/public/chunks)"
same "... whole" onetwothree "$(cat "$TMP/body")"
same "an answer that ends with its connection arrives" 200 "$(curl_from frontend http://10.78.0.12:8080/public/until-close)"
same "... whole" "until the end" "$(cat "$TMP/body")"
same "an interim response is passed on" "103 200" \
	"$(in_ns frontend curl -s -m 5 -D - -o /dev/null http://10.78.0.12:8080/public/interim | awk '/^HTTP/{printf "%s%s", s, $2; s=" "}')"
same "a server that closes after its answer is quoted" "1 200;1 200;" \
	"$(in_ns frontend curl -s -o /dev/null -o /dev/null -w '%{num_connects} %{http_code}\n' http://10.78.0.12:8080/public/close http://10.78.0.12:8080/public/a | tr '\n' ';')"
same "HTTP/1.0 is understood" 200 "$(curl_from frontend -0 http://10.78.0.12/public/a)"

# Bodies larger than memory: what the daemon holds does not grow with them.
before=$(awk '/^VmHWM/{print $2}' "/proc/$DAEMON/status")
sum=$(in_ns frontend curl -s -m $((60 * FACTOR)) "http://10.78.0.12:8080/public/big?400000000" | md5sum | cut -d' ' -f1)
direct=$(in_ns api curl -s -m $((60 * FACTOR)) "http://10.78.0.12:8080/public/big?400000000" | md5sum | cut -d' ' -f1)
after=$(awk '/^VmHWM/{print $2}' "/proc/$DAEMON/status")
same "400 MB arrive byte for byte" "$direct" "$sum"
holds "... and the daemon's memory grew by less than 4 MB ($before -> $after kB)" [ $((after - before)) -lt 4096 ]
in_ns frontend curl -s -m 3 --limit-rate 100k -o /dev/null "http://10.78.0.12:8080/public/big?400000000"
slow=$(awk '/^VmHWM/{print $2}' "/proc/$DAEMON/status")
holds "a reader that is slow holds back the sender ($after -> $slow kB)" [ $((slow - after)) -lt 4096 ]

# Kept connections.
in_ns frontend curl -s -o /dev/null -o /dev/null -o /dev/null -w '%{num_connects} %{http_code}\n' \
	http://10.78.0.12/public/1 http://10.78.0.12/private http://10.78.0.12/public/3 >"$TMP/kept"
same "a connection is kept over three requests, one of them refused" "1 200;0 403;0 200;" "$(tr '\n' ';' <"$TMP/kept")"
recorded "the record says that the upstream was reused" '.path == "/public/3" and .reused == true'

# Pipelining, one byte at a time, half-close.
pipeline='GET /public/1 HTTP/1.1\r\nHost: a\r\n\r\nGET /private HTTP/1.1\r\nHost: a\r\n\r\nGET /public/3 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n'
printf "$pipeline" | in_ns frontend timeout 5 nc -q 5 10.78.0.12 80 >"$TMP/piped"
same "pipelined requests are answered in order, the refusal in its place" "200 403 200" \
	"$(grep -a -o 'HTTP/1.1 [0-9]*' "$TMP/piped" | cut -d' ' -f2 | paste -sd' ')"
same "... each with its own answer" "/public/1 /public/3" \
	"$(grep -a -o 'GET /public/[0-9]' "$TMP/piped" | cut -d' ' -f2 | paste -sd' ')"
printf 'GET /public/slow HTTP/1.1\r\nHost: a\r\n\r\nGET /private HTTP/1.1\r\nHost: a\r\n\r\n' |
	in_ns frontend timeout 5 nc -q 2 10.78.0.12 8080 >"$TMP/piped"
same "a refusal waits for the answer before it" "200 403" \
	"$(grep -a -o 'HTTP/1.1 [0-9]*' "$TMP/piped" | cut -d' ' -f2 | paste -sd' ')"
slowly='import socket,sys,time
s = socket.create_connection(("10.78.0.12", 80)); s.setsockopt(6, 1, 1)
for b in b"GET /public/bytes HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n":
    s.sendall(bytes([b])); time.sleep(0.002)
out = b""
while True:
    b = s.recv(4096)
    if not b: break
    out += b
print(out.split()[1].decode())'
same "a client that sends one byte at a time is answered" 200 "$(in_ns frontend python3 -c "$slowly")"
recorded "... and its slowness is its own (t_head)" '.path == "/public/bytes" and .t_head > 50000000 and .t_head > .t_proxy'
printf 'GET /public/half HTTP/1.1\r\nHost: a\r\n\r\n' | in_ns frontend timeout 5 nc -N 10.78.0.12 80 >"$TMP/half"
same "a client that closes its half still gets the answer" 200 "$(awk 'NR==1{print $2}' "$TMP/half")"

# What goes wrong.
curl_from frontend http://10.78.0.12:8080/public/slow >/dev/null
recorded "a slow server shows in t_wait" '.path == "/public/slow" and .t_wait > 450000000'
same "an upstream that resets is 502" 502 "$(curl_from frontend http://10.78.0.12:8080/public/reset)"
recorded "... with its reason" '.status == 502 and .reason == "upstream_reset" and .response_flags == "UC"'
in_ns frontend curl -s -m 5 -o /dev/null http://10.78.0.12:8080/public/cut
holds "a response that is cut reaches the client as cut" [ $? -ne 0 ]
recorded "... with its reason" '.path == "/public/cut" and .reason == "upstream_closed"'
recorded "... and its flag" '.path == "/public/cut" and .response_flags == "UC"'
kill "${PIDS[1]}"
wait "${PIDS[1]}" 2>/dev/null
same "nobody listens: 503" 503 "$(curl_from frontend http://10.78.0.12:8080/public/a)"
recorded "... with its reason" '.status == 503 and .reason == "connect_refused" and .response_flags == "UF"'

raw() { printf "$1" | in_ns frontend timeout 5 nc -q 3 10.78.0.12 80 2>/dev/null | tr -d '\r' | head -n 1; }
same "a malformed request is 400" "HTTP/1.1 400 Bad Request" "$(raw 'GET /public/a HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n')"
same "two framings are 400" "HTTP/1.1 400 Bad Request" \
	"$(raw 'POST /public/upload HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n')"
recorded "... recorded as bad_request" '.type == "request" and .status == 400 and .reason == "bad_request" and .response_flags == "DPE"'
same "a NUL in the target is 400" "HTTP/1.1 400 Bad Request" "$(raw 'GET /public/\0 HTTP/1.1\r\nHost: a\r\n\r\n')"
same "bytes that are not HTTP get no answer" "" "$(raw '\026\003\001\002\000\001\000\001\374\003\003')"
recorded "... and the record says why" '.reason == "protocol_not_readable" and .verdict == "denied"'
same "a CONNECT that no rule names is 403" "HTTP/1.1 403 Forbidden" "$(raw 'CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n')"
holds "a request head that never ends is given up" \
	in_ns frontend bash -c 'exec 3<>/dev/tcp/10.78.0.12/80; printf "GET /public/a HT" >&3; timeout 5 cat <&3 | grep -q "^HTTP/1.1 408"'
recorded "... and the record says why" '.type == "request" and .status == 408 and .reason == "head_timeout" and .t_head > 900000000'

finish
