# SPDX-License-Identifier: Apache-2.0
# Workloads of the host's own namespace, by cgroup and by systemd unit. Here the host is the
# namespace `node`, 10.78.0.1: the daemon runs there, and so do
#
#   /shunt-test-$$/web          web    nginx on 8081 (older than the daemon) and 8082 (younger)
#   /shunt-test-$$/web/deep     deep   a workload inside a workload
#   /shunt-test-$$/second       second nginx on 8083
#   /shunt-test-$$/activated    act    serves 8085 and 8086, which another process listens on
#   SLICE/UNIT                  unit   nginx on 8084
#   no cgroup of a workload            nginx on 8090
. "$(dirname "$0")/lib.sh"
box_up "host-$$"
TOP=/shunt-test-$$
SLICE=/shunttest$$.slice
UNIT=shunttest$$-foo.service
HOST4=10.78.0.1
HOST6='[fd00:78::1]'

workload() { # NAME JQ: what status says of it
	shunt_ status -o json | jq -r ".workloads[] | select(.name == \"$1\") | $2"
}
wait_state() { # NAME STATE
	local tries=$((60 * FACTOR))
	until [ "$(workload "$1" .state)" = "$2" ] || [ $tries -eq 0 ]; do
		tries=$((tries - 1))
		sleep 0.1
	done
	[ "$(workload "$1" .state)" = "$2" ]
}

workload_document() { # NAME SELECTOR [MORE]
	cat <<-DOC
	---
	apiVersion: shunt.dev/v1
	kind: Workload
	metadata: {name: $1, namespace: shop}
	spec: {labels: {app: $1}, selectors: ["$2"]${3:+, $3}}
	DOC
}
host_documents() { # [MORE]: for web
	box_documents
	workload_document web "cgroup:$TOP/web" "${1:-}"
	workload_document deep "cgroup:$TOP/web/deep"
	workload_document second "cgroup:$TOP/second"
	workload_document act "cgroup:$TOP/activated" "ports: {http: 8085}"
	workload_document unit "systemd:id:$UNIT"
}
serves() { # NAME PORT PATH: frontend may GET that path there
	cat <<-DOC
	---
	apiVersion: cilium.io/v2
	kind: CiliumNetworkPolicy
	metadata: {name: $1, namespace: shop}
	spec:
	  endpointSelector: {matchLabels: {app: $1}}
	  ingress:
	  - fromEndpoints: [{matchLabels: {app: frontend}}]
	    toPorts: [{ports: [{port: "$2", protocol: TCP}], rules: {http: [{method: GET, path: "$3"}]}}]
	DOC
}
policies() {
	serves web 8081 '/public/.*'
	cat <<-'DOC'
	  - fromEndpoints: [{matchLabels: {app: frontend}}]
	    toPorts: [{ports: [{port: "8082", protocol: TCP}], rules: {http: [{method: GET, path: "/late"}]}}]
	  - fromEndpoints: [{matchLabels: {"reserved:world": ""}}]
	    toPorts: [{ports: [{port: "8081", protocol: TCP}], rules: {http: [{method: GET, path: "/hello"}]}}]
	DOC
	serves second 8083 '/second'
	serves unit 8084 '/unit'
	serves act 8085 '/activated'
	cat <<-'DOC'
	---
	apiVersion: cilium.io/v2
	kind: CiliumNetworkPolicy
	metadata: {name: api, namespace: shop}
	spec:
	  endpointSelector: {matchLabels: {app: api}}
	  ingress:
	  - fromEndpoints: [{matchLabels: {app: web}}]
	    toPorts: [{ports: [{port: "80", protocol: TCP}], rules: {http: [{method: GET, path: "/public/.*"}]}}]
	  - fromEndpoints: [{matchLabels: {app: deep}}]
	    toPorts: [{ports: [{port: "80", protocol: TCP}], rules: {http: [{method: GET, path: "/deep"}]}}]
	DOC
}

# A listener made by one process, which stays outside, and served by another inside: as
# systemd does for a unit that is started by its socket.
cat >"$TMP/activate.py" <<'PY'
import os, signal, socket, sys, threading
sockets = [socket.create_server(("::", int(port)), family=socket.AF_INET6, dualstack_ipv6=True)
           for port in sys.argv[2:]]
child = os.fork()
if child > 0:
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGKILL))
    os.waitpid(child, 0)
    sys.exit(0)
with open(sys.argv[1] + "/cgroup.procs", "w") as f:
    f.write(str(os.getpid()))
def serve(s):
    while True:
        c, peer = s.accept()
        c.recv(4096)
        text = b"act from %s\n" % peer[0].replace("::ffff:", "").encode()
        c.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text))
        c.close()
for s in sockets[1:]:
    threading.Thread(target=serve, args=(s,), daemon=True).start()
serve(sockets[0])
PY

for part in web/deep/er web/plain second activated; do
	cgroup_make "$TOP/$part"
done
cgroup_make "$SLICE"
nginx_start api 80
nginx_start node 8090 other
CGROUP=$TOP/web nginx_start node 8081 web
start_in node python3 "$TMP/activate.py" "$(cgroup_root)$TOP/activated" 8085 8086
wait_listening node 8086
config_write < <(policies)
host_documents >"$TMP/config/conf.d/10-workloads.yaml"
daemon_start || exit 1
CGROUP=$TOP/web nginx_start node 8082 late
CGROUP=$TOP/second nginx_start node 8083 second

# ---- what arrives ----

for host in $HOST4 "$HOST6"; do
	case $host in
	"$HOST4") prefix=10.78.0. ;;
	*) prefix=fd00:78:: ;;
	esac
	same "who may, and may this, is served ($host)" "200 web GET /public/a from ${prefix}11" \
		"$(curl_from frontend "http://$host:8081/public/a") $(cat "$TMP/body")"
	same "... another path is refused" 403 "$(curl_from frontend "http://$host:8081/private$prefix")"
	recorded "... with the workload's name in the record" \
		".path == \"/private$prefix\" and .verdict == \"denied\" and .status == 403 and .\"dst.workload\" == \"web\" and .\"src.workload\" == \"frontend\" and .policy == \"shop/web\""
	same "... nginx that came after the daemon too" "200 late GET /late from ${prefix}11, 403" \
		"$(curl_from frontend "http://$host:8082/late") $(cat "$TMP/body"), $(curl_from frontend "http://$host:8082/public/a")"
	same "who may not is refused at connect()" 7 "$(curl_status intruder "http://$host:8081/public/a")"
	before=$(metric shunt_steered_connections_total)
	same "an outsider is steered, and served under its own name" "200 web GET /hello from ${prefix}99" \
		"$(curl_from outside "http://$host:8081/hello") $(cat "$TMP/body")"
	same "... or refused" 403 "$(curl_from outside "http://$host:8081/public/a")"
	same "... both were steered" $((before + 2)) "$(metric shunt_steered_connections_total)"
	same "... a port that only frontend may use is refused by RST" 7 "$(curl_status outside "http://$host:8082/late")"
	same "a second workload on the host has its own rules" "200 second GET /second from ${prefix}11, 403, 7" \
		"$(curl_from frontend "http://$host:8083/second") $(cat "$TMP/body"), $(curl_from frontend "http://$host:8083/public/a"), $(curl_status intruder "http://$host:8083/second")"
	same "a port that another process listens on is judged where it is declared" "200 act from ${prefix}11, 403, 7" \
		"$(curl_from frontend "http://$host:8085/activated") $(cat "$TMP/body"), $(curl_from frontend "http://$host:8085/private"), $(curl_status outside "http://$host:8085/activated")"
	same "... and untouched where it is not" "200 act from ${prefix}13" \
		"$(curl_from intruder "http://$host:8086/anything") $(cat "$TMP/body")"
done
recorded "a refusal of the kernel names both ends" \
	'.reason == "policy_l4" and ."src.workload" == "intruder" and ."dst.workload" == "web" and (."dst.addr" | endswith(":8081"))'
recorded "a refusal of the kernel names the workload that an outsider did not reach" \
	'.reason == "policy_l4" and .direction == "inbound" and ."dst.workload" == "web"'

# ---- what leaves ----

for host in 10.78.0.12 '[fd00:78::12]'; do
	own=10.78.0.1
	[ "$host" = 10.78.0.12 ] || own=fd00:78::1
	same "a process of the workload is captured, the server sees the host's address ($host)" "200 api GET /public/out from $own" \
		"$(CGROUP=$TOP/web curl_from node "http://$host/public/out") $(cat "$TMP/body")"
	recorded "... under the workload's name" \
		".type == \"connection\" and .\"src.workload\" == \"web\" and .\"dst.workload\" == \"api\" and .cgroup == \"$TOP/web\" and .comm == \"curl\" and (.\"src.addr\" | contains(\"$own\"))"
	same "... what it may not is refused" 403 "$(CGROUP=$TOP/web curl_from node "http://$host/deep")"
	same "... a port nobody may use too" 7 "$(CGROUP=$TOP/web curl_status node "http://$host:81/")"
	same "a cgroup below belongs to it" "200 403" \
		"$(CGROUP=$TOP/web/plain curl_from node "http://$host/public/plain") $(CGROUP=$TOP/web/plain curl_from node "http://$host/deep")"
	same "... unless it is a workload of its own: the deepest wins" "403 200" \
		"$(CGROUP=$TOP/web/deep curl_from node "http://$host/public/out") $(CGROUP=$TOP/web/deep curl_from node "http://$host/deep")"
	same "... and has what is below it" "403 200" \
		"$(CGROUP=$TOP/web/deep/er curl_from node "http://$host/public/out") $(CGROUP=$TOP/web/deep/er curl_from node "http://$host/deep")"
	same "another workload of the host that no rule names is refused" 7 "$(CGROUP=$TOP/second curl_status node "http://$host/public/out")"
done
recorded "a cgroup below is recorded under the workload's name" \
	".type == \"connection\" and .\"src.workload\" == \"web\" and .cgroup == \"$TOP/web/plain\""
recorded "... and the deepest under its own" \
	".type == \"connection\" and .\"src.workload\" == \"deep\" and .cgroup == \"$TOP/web/deep/er\""
same "what a captured process is told of its peer and itself" "10.78.0.12 80 10.78.0.1" \
	"$(CGROUP=$TOP/web in_ns node curl -s -o /dev/null -w '%{remote_ip} %{remote_port} %{local_ip}' http://10.78.0.12/public/names)"

# ---- what is nobody's ----

before=$(metric shunt_captured_connections_total),$(metric shunt_steered_connections_total)
for host in 10.78.0.12 '[fd00:78::12]'; do
	same "a process of no workload goes where it wants ($host)" 200 "$(curl_from node "http://$host/private")"
done
for host in $HOST4 "$HOST6"; do
	same "... and is reached by everybody ($host)" "200 200" \
		"$(curl_from intruder "http://$host:8090/x") $(curl_from outside "http://$host:8090/x")"
	same "between processes of the host nothing is judged" "200 200 200" \
		"$(CGROUP=$TOP/web curl_from node "http://$host:8083/private") $(CGROUP=$TOP/web curl_from node "http://$host:8090/x") $(curl_from node "http://$host:8081/private")"
done
for host in 127.0.0.1 '[::1]'; do
	same "loopback is not touched ($host)" "200 200 200" \
		"$(CGROUP=$TOP/web curl_from node "http://$host:8081/private") $(CGROUP=$TOP/web curl_from node "http://$host:8083/private") $(curl_from node "http://$host:8081/private")"
done
same "... none of these went through the proxy" "$before" \
	"$(metric shunt_captured_connections_total),$(metric shunt_steered_connections_total)"

# ---- units ----

same "a unit that does not run is absent, and why" "absent: no such unit runs" "$(workload unit '.state + ": " + .why')"
same "... and where it would be" "systemd:id:$UNIT $UNIT" "$(workload unit '.selector + " " + .unit')"
for round in first second; do
	cgroup_make "$SLICE/$UNIT"
	CGROUP=$SLICE/$UNIT nginx_start node 8084 unit
	holds "it is enrolled when it runs ($round time)" wait_state unit captured
	same "... and judged" "200 403 7" \
		"$(curl_from frontend "http://$HOST4:8084/unit") $(curl_from frontend "http://$HOST6:8084/x") $(curl_status outside "http://$HOST4:8084/unit")"
	kill "$STARTED"
	wait "$STARTED" 2>/dev/null
	cgroup_remove "$SLICE/$UNIT"
	holds "... and let go of when it has stopped" wait_state unit absent
done
# As a restart is: away and back before anybody has looked.
cgroup_make "$SLICE/$UNIT"
CGROUP=$SLICE/$UNIT nginx_start node 8084 unit
holds "it runs again" wait_state unit captured
kill "$STARTED"
wait "$STARTED" 2>/dev/null
cgroup_remove "$SLICE/$UNIT"
cgroup_make "$SLICE/$UNIT"
CGROUP=$SLICE/$UNIT nginx_start node 8084 unit
tries=$((60 * FACTOR))
until [ "$(curl_status outside "http://$HOST4:8084/unit")" = 7 ] || [ $tries -eq 0 ]; do
	tries=$((tries - 1))
	sleep 0.1
done
same "a unit that restarts at once is judged again" "200 403 7" \
	"$(curl_from frontend "http://$HOST4:8084/unit") $(curl_from frontend "http://$HOST6:8084/x") $(curl_status outside "http://$HOST4:8084/unit")"

# ---- what status says ----

same "status shows selector, cgroup and state" "captured cgroup:$TOP/web $TOP/web complete" \
	"$(workload web '.state + " " + .selector + " " + .cgroup + " " + .registry')"
holds "... for people too" bash -c "$B/shunt --run-dir $RUN status -v | grep -q 'cgroup:$TOP/web/deep'"
holds "the IPv6 slots have their route on the host" bash -c "nsenter --net=/run/netns/$BOX-node ip -6 route show table local | grep -q fd73:6875:6e74::/64"

# ---- without the daemon ----

away() { # frontend, outside, and web itself
	echo "$(curl_status frontend "http://$HOST4:8081/public/a") $(curl_status outside "http://$1:8081/hello") $(CGROUP=$TOP/web curl_status node "http://$2/public/a")"
}
daemon_stop KILL
for pair in "$HOST4 10.78.0.12" "$HOST6 [fd00:78::12]"; do
	# shellcheck disable=SC2086
	same "without the daemon all that is proxied is refused (deny, $pair)" "7 7 7" "$(away $pair)"
done
same "... who is nobody's is not concerned" "200 200" \
	"$(curl_from outside "http://$HOST4:8090/x") $(curl_from node http://10.78.0.12/private)"
same "... nor loopback" 200 "$(CGROUP=$TOP/web curl_from node http://127.0.0.1:8083/private)"
daemon_start || exit 1
same "after a restart it goes on" "200 403 200 403" \
	"$(curl_from frontend "http://$HOST4:8081/public/a") $(curl_from outside "http://$HOST6:8081/x") $(CGROUP=$TOP/web curl_from node http://10.78.0.12/public/a) $(CGROUP=$TOP/web curl_from node 'http://[fd00:78::12]/x')"
host_documents "onUnavailable: allow" >"$TMP/config/conf.d/10-workloads.yaml"
holds "onUnavailable: allow for one workload of the host" shunt_ reload
daemon_stop KILL
for pair in "$HOST4 10.78.0.12" "$HOST6 [fd00:78::12]"; do
	# shellcheck disable=SC2086
	same "... passes what it begins and what arrives for it, others as they say ($pair)" "7 0 0" "$(away $pair)"
done
same "... what the kernel denies stays denied" "7 7" \
	"$(curl_status outside "http://$HOST4:8082/late") $(CGROUP=$TOP/web curl_status node "http://10.78.0.12:81/")"
daemon_start || exit 1
same "... and is judged again when the daemon is back" "403 403" \
	"$(curl_from outside "http://$HOST4:8081/x") $(CGROUP=$TOP/web curl_from node http://10.78.0.12/x)"
same "... and what passed was counted" 4 "$(metric shunt_passed_unjudged_total)"

# ---- gone from the documents ----

box_documents >"$TMP/config/conf.d/10-workloads.yaml"
holds "their documents are removed" shunt_ reload
for host in $HOST4 "$HOST6"; do
	same "everybody reaches what was a workload of the host ($host)" "200 200 200 200 200" \
		"$(curl_from intruder "http://$host:8081/private") $(curl_from outside "http://$host:8081/private") $(curl_from frontend "http://$host:8083/private") $(curl_from outside "http://$host:8084/private") $(curl_from outside "http://$host:8085/private")"
done
same "... and its processes everybody" "200 200" \
	"$(CGROUP=$TOP/web curl_from node http://10.78.0.12/private) $(CGROUP=$TOP/web/deep curl_from node 'http://[fd00:78::12]/private')"
same "no route is left on the host" "" "$(in_ns node ip -6 route show table local | grep fd73)"
same "... no program in its namespace" 3 "$(find "$BPFFS/shunt" -name 'inbound_*' | wc -l)"
same "... no place" 3 "$(bpftool -j map dump pinned "$BPFFS/shunt/${BOX#shunt-}/v2/places" | jq length)"
same "... no declared port" 0 "$(bpftool -j map dump pinned "$BPFFS/shunt/${BOX#shunt-}/v2/owners" | jq length)"
same "... no listener" "*:15021 127.0.0.1:15020" \
	"$(in_ns node ss -Hltnp | awk '/shuntd/ {print $4}' | sort | tr '\n' ' ' | sed 's/ $//')"

# ---- detached, after a daemon that was killed ----

host_documents >"$TMP/config/conf.d/10-workloads.yaml"
holds "their documents come back" shunt_ reload
same "... and are enforced" 403 "$(curl_from outside "http://$HOST4:8081/x")"
daemon_stop KILL
holds "shunt detach releases what a killed daemon had on the host" \
	in_ns node "$B/shunt" --run-dir "$RUN" --name "${BOX#shunt-}" detach --bpffs "$BPFFS"
same "... everybody passes" "200 200" \
	"$(curl_from outside "http://$HOST6:8081/private") $(CGROUP=$TOP/web curl_from node http://10.78.0.12/private)"
same "... no route is left on the host" "" "$(in_ns node ip -6 route show table local | grep fd73)"
finish
