# SPDX-License-Identifier: Apache-2.0
# Explicit listeners: the same way through the proxy, with kernel programs and without.
. "$(dirname "$0")/lib.sh"
box_up "listeners-$$"
nginx_start api 80
nginx_start api 7000

listeners() { # [UPSTREAM-PORT]
	cat <<-DOC
	listeners:
	- {address: 10.78.0.1, port: 8080, workload: shop/api, upstream: "10.78.0.12:${1:-80}"}
	- {address: "fd00:78::1", port: 8080, workload: shop/api, upstream: "[fd00:78::12]:80"}
	- {address: 127.0.0.1, port: 8080, workload: shop/api, upstream: "10.78.0.12:80"}
	- {address: 10.78.0.1, port: 8081, workload: shop/api, upstream: "10.78.0.12:9999"}
	- {address: 10.78.0.1, port: 8082, workload: shop/api, upstream: "10.78.0.12:7000"}
	DOC
}

# Workloads by address: without kernel programs none is this node's.
remote_documents() {
	sed -i "s|selectors: .*-frontend\"\]|addresses: [10.78.0.11, \"fd00:78::11\"]|
		s|selectors: .*-api\"\]|addresses: [10.78.0.12, \"fd00:78::12\"]|
		s|selectors: .*-intruder\"\]|addresses: [10.78.0.13]|" "$TMP/config/conf.d/10-workloads.yaml"
}

check_listeners() { # HOW
	same "$1: allowed" 200 "$(curl_from frontend http://10.78.0.1:8080/public/a)"
	same "... the path refused" 403 "$(curl_from frontend http://10.78.0.1:8080/private)"
	same "... over IPv6" "200 403" \
		"$(curl_from frontend 'http://[fd00:78::1]:8080/public/a') $(curl_from frontend 'http://[fd00:78::1]:8080/private')"
	same "... whom no rule allows is refused" 000 "$(curl_from intruder http://10.78.0.1:8080/public/a)"
	same "... and the outside" 000 "$(curl_from outside http://10.78.0.1:8080/public/a)"
	same "... nobody upstream" 503 "$(
		sed -i 's/port: "80"/port: "9999"/' "$TMP/config/conf.d/20-policy.yaml"
		shunt_ reload >/dev/null
		curl_from frontend http://10.78.0.1:8081/public/a
		sed -i 's/port: "9999"/port: "80"/' "$TMP/config/conf.d/20-policy.yaml"
		shunt_ reload >/dev/null
	)"
	same "... a port without http rules is relayed as it is" 200 \
		"$(curl_from frontend http://10.78.0.1:8082/private)"
	same "... the host itself is let in, as everywhere" 200 "$(curl_from node http://127.0.0.1:8080/private)"
	recorded "... the record says who and what" '."src.workload" == "frontend" and ."dst.workload" == "api" and .status == 403 and .direction == "inbound" and .reason == "policy_l7"'
	same "... status says that it is not captured" 1 "$(shunt_ status | grep -c '5 open: what comes by them is NOT captured')"
}

OPTIONS="capture: off
$(listeners)" config_write <test/netns/policy.yaml
remote_documents
daemon_start || exit 1
check_listeners "without kernel programs"
same "... no program, map or link is pinned" "" "$(find "$BPFFS/shunt" 2>/dev/null)"
holds "... and status warns of it" bash -c "$B/shunt --run-dir $RUN status | grep -q 'capture: off'"
same "... workloads cannot be added" 1 \
	"$(shunt_ workload add shop/late --netns "/run/netns/$BOX-outside" --label app=x >/dev/null 2>&1; echo $?)"

# They come and go with a reload.
OPTIONS="capture: off
$(listeners 7000)" config_write <test/netns/policy.yaml
remote_documents
shunt_ reload >/dev/null
same "another upstream is in force at once" 200 "$(curl_from frontend http://10.78.0.1:8080/private)"
OPTIONS="capture: off" config_write <test/netns/policy.yaml
remote_documents
shunt_ reload >/dev/null
in_ns frontend curl -s -m 5 http://10.78.0.1:8080/public/a >/dev/null
same "a listener that left the configuration is closed" 7 $?
daemon_stop

# An address that somebody has: said, and taken when it is free.
start_in node nc -lk 10.78.0.1 8080
wait_listening node 8080
OPTIONS="capture: off
$(listeners)" config_write <test/netns/policy.yaml
remote_documents
daemon_start || exit 1
holds "a port that is taken does not stop the others" bash -c "$B/shunt --run-dir $RUN status | grep -q '4 open.*not open: 1'"
kill "$STARTED"
wait "$STARTED" 2>/dev/null
tries=$((100 * FACTOR))
until [ "$(curl_from frontend http://10.78.0.1:8080/public/a)" = 200 ] || [ $tries -eq 0 ]; do
	tries=$((tries - 1))
	sleep 0.1
done
same "... and is opened when it is free" 200 "$(curl_from frontend http://10.78.0.1:8080/public/a)"
daemon_stop

# The same beside captured workloads.
OPTIONS="$(listeners)" config_write <test/netns/policy.yaml
sed -i "/name: frontend,/,/^---/s|selectors: .*|addresses: [10.78.0.11, \"fd00:78::11\"]|; /name: intruder,/,/^---/s|selectors: .*|addresses: [10.78.0.13]|" \
	"$TMP/config/conf.d/10-workloads.yaml"
daemon_start || exit 1
check_listeners "beside captured workloads"
same "... what is captured is judged as ever" 403 "$(curl_from frontend http://10.78.0.12/private)"
finish
