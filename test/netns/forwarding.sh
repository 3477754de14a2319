# SPDX-License-Identifier: Apache-2.0
# What a server hears of its client and of the way: nothing unless asked for, then Via,
# Max-Forwards, Forwarded or X-Forwarded-*, whatever the client wrote under these names.
. "$(dirname "$0")/lib.sh"
box_up "forwarding-$$"
config_write <<'DOC'
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: api, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: api}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: frontend}}]
    toPorts:
    - ports: [{port: "8080", protocol: TCP}]
      rules:
        http:
        - {method: "GET|OPTIONS|TRACE", path: "/public/.*"}
DOC
start_in api python3 test/peer/http.py 8080
wait_listening api 8080
daemon_start || exit 1

options() { # LINE...
	sed -i '/^via:/d; /^forwarded:/d' "$TMP/config/shunt.yaml"
	printf '%s\n' "$@" >>"$TMP/config/shunt.yaml"
	shunt_ reload >/dev/null || not_ok "a reload with $*"
}

# said HOST REQUEST-LINE FIELD...: all that comes back, one connection for one request
said() {
	local host=$1
	shift
	printf '%s\r\n' "$@" 'Connection: close' '' | in_ns frontend timeout $((10 * FACTOR)) nc "$host" 8080 | tr -d '\r'
}
body() { sed '1,/^$/d'; }
lies=('Via: 1.0 gate' 'X-Forwarded-For: 192.0.2.9' 'X-Forwarded-Proto: https' 'x-forwarded-host: b'
	'X-Forwarded-Port: 1' 'Forwarded: for=192.0.2.9' 'X_Forwarded_For: 192.0.2.9' 'Max-Forwards: 0')

same "by default a head passes as it is" "$(printf '%s\n' 'GET /public/head HTTP/1.1' 'Host: a' "${lies[@]}")" \
	"$(said 10.78.0.12 'GET /public/head HTTP/1.1' 'Host: a' "${lies[@]}" | body | sed '/^$/d')"
same "... and so does an answer" "" "$(said 10.78.0.12 'GET /public/a HTTP/1.1' 'Host: a' | grep -i '^via')"
same "... an OPTIONS is the server's to answer, whatever its Max-Forwards" "/public/a" \
	"$(said 10.78.0.12 'OPTIONS /public/a HTTP/1.1' 'Host: a' 'Max-Forwards: 0' | body)"

options 'via: on' 'forwarded: forwarded'
for at in 10.78.0.12/10.78.0.11 'fd00:78::12/"[fd00:78::11]"'; do
	same "Forwarded replaces what the client wrote, Via follows it (${at%/*})" \
		"$(printf '%s\n' 'GET /public/head HTTP/1.1' 'Host: a' 'Via: 1.0 gate' 'Max-Forwards: 0' \
			'Via: 1.1 shunt' "Forwarded: for=${at#*/};proto=http;host=\"a\"")" \
		"$(said "${at%/*}" 'GET /public/head HTTP/1.1' 'Host: a' "${lies[@]}" | body | sed '/^$/d')"
done
same "an answer says Via, and every interim one" "2" \
	"$(said 10.78.0.12 'GET /public/interim HTTP/1.1' 'Host: a' | grep -c '^Via: 1.1 shunt$')"
same "a refusal is our own word and came by no way" "" \
	"$(said 10.78.0.12 'GET /private HTTP/1.1' 'Host: a' | grep -i '^via')"
same "Max-Forwards is counted down" "Max-Forwards: 6" \
	"$(said 10.78.0.12 'TRACE /public/head HTTP/1.1' 'Host: a' 'Max-Forwards: 7' | body | grep Max)"
same "an OPTIONS that may go no further is answered here" "HTTP/1.1 200 OK Content-Length: 0 Connection: close" \
	"$(said 10.78.0.12 'OPTIONS /public/a HTTP/1.1' 'Host: a' 'Max-Forwards: 0' | paste -sd' ' | sed 's/ *$//')"
recorded "... its record says that nobody was dialled" \
	'.method == "OPTIONS" and .status == 200 and .verdict == "allowed" and .attempts == 0 and .response_body_bytes == 0'
same "a TRACE that may go no further is reflected, without its secrets" \
	"$(printf '%s\n' 'TRACE /public/a?b HTTP/1.1' 'Host: a' 'Max-Forwards: 0')" \
	"$(said 10.78.0.12 'TRACE /public/a?b HTTP/1.1' 'Host: a' 'Max-Forwards: 0' 'Cookie: c=d' 'Authorization: e' | body | sed '/^$/d')"
same "... but none of more than 8 KiB" "HTTP/1.1 431 Request Header Fields Too Large" \
	"$(said 10.78.0.12 'TRACE /public/a HTTP/1.1' 'Host: a' 'Max-Forwards: 0' "X: $(printf '%9000s' '' | tr ' ' x)" | head -n 1)"
same "... if a rule allows it" "HTTP/1.1 403 Forbidden" \
	"$(said 10.78.0.12 'TRACE /private HTTP/1.1' 'Host: a' 'Max-Forwards: 0' | head -n 1)"
same "a connection goes on after such an answer" "200 200 200" \
	"$(in_ns frontend curl -s -m 10 -o /dev/null -w '%{http_code} ' -X OPTIONS -H 'Max-Forwards: 0' -d content http://10.78.0.12:8080/public/a \
		--next -s -o /dev/null -w '%{http_code} ' http://10.78.0.12:8080/public/a \
		--next -s -o /dev/null -w '%{http_code}' -X TRACE -H 'Max-Forwards: 0' http://10.78.0.12:8080/public/a)"

options 'forwarded: x-forwarded'
for at in 10.78.0.12/10.78.0.11 fd00:78::12/fd00:78::11; do
	same "X-Forwarded-* replace what the client wrote (${at%/*})" \
		"$(printf '%s\n' 'GET /public/head HTTP/1.1' 'Host: a:8080' 'Via: 1.0 gate' 'Max-Forwards: 0' \
			"X-Forwarded-For: ${at#*/}" 'X-Forwarded-Proto: http' 'X-Forwarded-Host: a:8080' 'X-Forwarded-Port: 8080')" \
		"$(said "${at%/*}" 'GET /public/head HTTP/1.1' 'Host: a:8080' "${lies[@]}" | body | sed '/^$/d')"
done
sed -i 's/^forwarded: .*/forwarded: both/' "$TMP/config/shunt.yaml"
same "another word is refused" "shunt.yaml" \
	"$("$B/shunt" config validate "$TMP/config" 2>&1 | grep -o "shunt.yaml.*'forwarded': 'both' is not off, forwarded or x-forwarded" | cut -d: -f1)"

finish
