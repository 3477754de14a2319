# SPDX-License-Identifier: Apache-2.0
# headerMatches through the proxy: what is logged, added, replaced, deleted and refused, seen by
# nginx and by a server that says back what it got; and no output anywhere tells a Secret.
. "$(dirname "$0")/lib.sh"
box_up "headers-$$"
SECRET=hunter2-never-to-be-seen

mkdir -p "$TMP/nginx"
chmod 755 "$TMP" "$TMP/nginx"
cat >"$TMP/nginx/nginx.conf" <<-CONF
	daemon off; worker_processes 1; pid $TMP/nginx/pid;
	events { worker_connections 512; }
	http {
	  access_log off;
	  client_body_temp_path $TMP/nginx/b; proxy_temp_path $TMP/nginx/p; fastcgi_temp_path $TMP/nginx/f;
	  uwsgi_temp_path $TMP/nginx/u; scgi_temp_path $TMP/nginx/s;
	  server { listen 80; location / { return 200 "team=\$http_x_team auth=\$http_authorization\n"; } }
	}
CONF
start_in api nginx -c "$TMP/nginx/nginx.conf" -e "$TMP/nginx/error.log"
wait_listening api 80
start_in api python3 test/peer/http.py 8080
wait_listening api 8080

policy() { # VALUE-OF-THE-SECRET
	cat <<-DOC
	apiVersion: cilium.io/v2
	kind: CiliumNetworkPolicy
	metadata: {name: api, namespace: shop}
	spec:
	  endpointSelector: {matchLabels: {app: api}}
	  ingress:
	  - fromEndpoints: [{matchLabels: {app: frontend}}]
	    toPorts:
	    - ports: [{port: "80", protocol: TCP}, {port: "8080", protocol: TCP}]
	      rules:
	        http:
	        - {path: "/must", headerMatches: [{name: Authorization, secret: {name: token}}]}
	        - {path: "/log", headerMatches: [{name: X-Team, value: blue, mismatch: LOG}]}
	        - {path: "/public/head", headerMatches: [{name: X-Add, value: one, mismatch: ADD}]}
	        - path: "/public/head"
	          headerMatches:
	          - {name: X-Replace, value: two, mismatch: REPLACE}
	          - {name: X-Delete, value: three, mismatch: DELETE}
	        - {path: "/sign", headerMatches: [{name: Authorization, secret: {name: token}, mismatch: REPLACE}]}
	        - {path: "/gone", headerMatches: [{name: X-A, secret: {name: gone}, mismatch: LOG}]}
	---
	apiVersion: v1
	kind: Secret
	metadata: {name: token, namespace: shop}
	data: {value: "$(printf %s "$1" | base64 -w0)"}
	DOC
}
policy "$SECRET" | config_write
daemon_start || exit 1
a=http://10.78.0.12

same "a header that a rule wants and that is missing is 403" 403 "$(curl_from frontend $a/must)"
same "another value than the Secret's is 403" 403 "$(curl_from frontend -H 'Authorization: guess' $a/must)"
same "the Secret's value passes" 200 "$(curl_from frontend -H "authorization: $SECRET" $a/must)"
same "... unchanged" "team= auth=$SECRET" "$(cat "$TMP/body")"
same "a rule whose Secret does not exist never matches" 403 "$(curl_from frontend -H 'X-A: b' $a/gone)"

same "a mismatch that is only logged passes" 200 "$(curl_from frontend -H 'X-Team: red' $a/log)"
same "... unchanged" "team=red auth=" "$(cat "$TMP/body")"
recorded "... and its record names the entry and the header" \
	'.path == "/log" and .mismatch == "conf.d/20-policy.yaml:13 X-Team LOG" and .verdict == "allowed"'
curl_from frontend -H 'X-Team: blue' $a/log >/dev/null
recorded "the record of one that matches names none" '.path == "/log" and has("mismatch") == false'

same "a Secret is put in for what the client said" 200 "$(curl_from frontend -H 'Authorization: forged' $a/sign)"
same "... and the server sees it" "team= auth=$SECRET" "$(cat "$TMP/body")"
recorded "... its record says so" '.path == "/sign" and .mismatch == "conf.d/20-policy.yaml:19 Authorization REPLACE"'

seen() { curl_from frontend "$@" "$a:8080/public/head" >/dev/null; grep -i "^x-\|^trailer" "$TMP/body" | paste -sd' '; }
same "fields are added and replaced where they are missing" "X-Add: one X-Replace: two" "$(seen)"
same "an added value stands beside the one that came, a replaced one in its place, a deleted one nowhere" \
	"X-Replace: two x-add: zero X-Other: kept X-Add: one" \
	"$(seen -H 'x-replace: a' -H 'x-add: zero' -H 'X-Delete: b' -H 'X-REPLACE: c' -H 'X-Other: kept' -H 'x-delete: d')"
same "what matches is not edited" "X-Add: one X-Replace: two X-Delete: three" \
	"$(seen -H 'X-Add: one' -H 'X-Replace: two' -H 'X-Delete: three')"
same "the framing of an edited upload is its own" 200 \
	"$(head -c 100000 /dev/urandom | curl_from frontend -T - -H 'X-Delete: b' "$a:8080/public/head")"
same "... chunked, once" "Transfer-Encoding: chunked" "$(grep -i 'content-length\|transfer-encoding' "$TMP/body")"

trailers='POST /public/head HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\nX-Delete: b\r\n\r\n1\r\nx\r\n0\r\nX-Delete: c\r\nX-Replace: d\r\n\r\n'
printf "$trailers" | in_ns frontend timeout 5 nc -q 5 10.78.0.12 8080 | tr -d '\r' >"$TMP/trailed"
same "trailers cannot bring back what a rule took away" "X-Add: one X-Replace: two" \
	"$(grep -i '^x-\|^trailer' "$TMP/trailed" | paste -sd' ')"
named='GET /public/head HTTP/1.1\r\nHost: a\r\nConnection: X-Add, close\r\nX-Add: one\r\n\r\n'
printf "$named" | in_ns frontend timeout 5 nc -q 5 10.78.0.12 8080 | tr -d '\r' >"$TMP/named"
same "a client that names a header in Connection does not get rid of it" "X-Add: one X-Replace: two" \
	"$(grep -i '^x-' "$TMP/named" | paste -sd' ')"
same "two requests of one kept connection are edited alike" "X-Add: one X-Replace: two X-Add: one X-Replace: two" \
	"$(in_ns frontend curl -s "$a:8080/public/head" "$a:8080/public/head" | grep -i '^x-' | paste -sd' ')"

# A Secret that changes holds with the next request; one that cannot be is refused whole.
policy other | config_write
shunt_ reload >"$TMP/reload" 2>&1
same "the Secret before is 403 after a reload" 403 "$(curl_from frontend -H "Authorization: $SECRET" $a/must)"
same "the new one passes" 200 "$(curl_from frontend -H "Authorization: other" $a/must)"
policy "$SECRET
x" | config_write
shunt_ reload >>"$TMP/reload" 2>&1
holds "a Secret that no header can have is an error of the load" grep -q "cannot stand in a header" "$TMP/reload"
policy "$SECRET" | sed "s/^data: .*/data: {value: $SECRET}/" | config_write
shunt_ reload >>"$TMP/reload" 2>&1
holds "... and so is one that is not base64" grep -q "is not base64" "$TMP/reload"
policy "$SECRET" | sed "s/^data: .*/stringData: {value: $SECRET/" | config_write
shunt_ reload >>"$TMP/reload" 2>&1
holds "... and so is one that is not YAML" grep -q "YAML: " "$TMP/reload"
same "what was loaded before holds" 200 "$(curl_from frontend -H "Authorization: other" $a/must)"

# Nothing that anybody reads has it.
shunt_ config validate "$TMP/config" >"$TMP/said" 2>&1 # still the one that is wrong
shunt_ config validate "$TMP/config" -o json >>"$TMP/said" 2>&1
shunt_ status >>"$TMP/said" 2>&1
policy "$SECRET" | config_write
shunt_ reload >>"$TMP/reload" 2>&1
curl_from frontend -H 'Authorization: forged' $a/sign >/dev/null
curl_from frontend -H 'Authorization: forged' $a/must >/dev/null
{
	shunt_ config validate "$TMP/config"
	shunt_ policy explain --config "$TMP/config" --from shop/frontend --to shop/api:80 --path /must --header 'Authorization: x'
	shunt_ policy explain --config "$TMP/config" --from shop/frontend --to shop/api:80 --path /sign -o json
	shunt_ status -v
	shunt_ status -o json
	shunt_ observe --last 1000 -o json
	shunt_ observe --last 1000
	in_ns node curl -s http://127.0.0.1:15020/metrics
} >>"$TMP/said" 2>&1
holds "the commands said something" grep -q "is not the value of Secret shop/token" "$TMP/said"
is_written() { jq -Rce 'fromjson? | select(.path == "/must" and .status == 403)' "$LOG" >/dev/null; }
wait_until is_written
same "no command, log, record or metric tells a Secret" "" \
	"$(grep -l "$SECRET\|$(printf %s "$SECRET" | base64 -w0)" "$TMP/said" "$TMP/reload" "$TMP"/shuntd.log* "$LOG" 2>/dev/null)"

finish
