# SPDX-License-Identifier: Apache-2.0
# Another mesh: where somebody listens on port 15008 the workload is his, until he goes.
. "$(dirname "$0")/lib.sh"
box_up "mesh-$$"
nginx_start api 80
config_write <test/netns/policy.yaml

cat >"$TMP/listen.py" <<'PY'
import socket, sys, time
s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)
if ":" in sys.argv[1]: s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
s.bind((sys.argv[1], 15008)); s.listen(5)
time.sleep(600)
PY
state() { # NAME: its state and the reason
	shunt_ status -o json | jq -r --arg n "$1" '.workloads[] | select(.name == $n) | .state + " " + (.reason // "-")'
}
is_captured() { [ "$(state "$1")" = "captured -" ]; }
others() { # who else is enrolled
	shunt_ status -o json | jq -r '[.workloads[] | select(.state == "captured") | .name] | sort | join(" ")'
}
for address in 0.0.0.0 127.0.0.1 :: ::1 10.78.0.12; do
	start_in api python3 "$TMP/listen.py" "$address"
	mesh=$STARTED
	wait_listening api 15008
	daemon_start || exit 1
	same "$address:15008 is taken: the workload is not enrolled" "absent foreign_mesh" "$(state api)"
	same "... the others are" "frontend intruder" "$(others)"
	holds "... the log says why, once" [ "$(grep -c 'workload shop/api: not enrolled: .*port 15008' "$TMP/shuntd.log")" = 1 ]
	same "... status is no failure" 0 "$(shunt_ status >"$TMP/status"; echo $?)"
	holds "... but says that one is missing" grep -q '1 not enrolled' "$TMP/status"
	same "... its traffic is untouched" "200 200" \
		"$(curl_from intruder http://10.78.0.12/private) $(curl_from intruder 'http://[fd00:78::12]/private')"
	same "... nothing of ours listens there" "" "$(in_ns api ss -Hltn | grep -vE ':(80|1080|15008) ')"
	same "... no route of ours is there" "" "$(in_ns api ip -6 route show table local | grep fd73)"
	kill "$mesh"
	wait "$mesh" 2>/dev/null
	holds "... when he goes it is enrolled by itself" wait_until is_captured api
	same "... and protected" 7 "$(in_ns intruder curl -s -m 5 http://10.78.0.12/private >/dev/null; echo $?)"
	daemon_detach
done
start_in outside python3 "$TMP/listen.py" 0.0.0.0
wait_listening outside 15008
daemon_start || exit 1
same "15008 of another namespace is in nobody's way" "api frontend intruder" "$(others)"
finish
