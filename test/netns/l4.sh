# SPDX-License-Identifier: Apache-2.0
# L3/L4: refused in the kernel with the errno a program expects, everything else direct.
. "$(dirname "$0")/lib.sh"
box_up "l4-$$"
nginx_start api 80
nginx_start api 7000
nginx_start frontend 9000
nginx_start outside 9001
config_write <test/netns/policy.yaml
daemon_start || exit 1

connects() { # NAMESPACE ADDRESS PORT: the errno's name, and whether it was at once
	in_ns "$1" python3 - "$2" "$3" <<-'PY'
	import errno, socket, sys, time
	t = time.monotonic()
	s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)
	s.settimeout(5)
	try:
	    s.connect((sys.argv[1], int(sys.argv[2])))
	    print("connected", s.getpeername()[0] == sys.argv[1] and s.getpeername()[1] == int(sys.argv[2]))
	except OSError as e:
	    print(errno.errorcode.get(e.errno, str(e)), time.monotonic() - t < 1)
	PY
}

for a in 10.78.0.12 fd00:78::12; do
	same "who may not is refused at once, ECONNREFUSED ($a)" "ECONNREFUSED True" "$(connects intruder $a 80)"
	same "a port nobody may use is refused ($a)" "ECONNREFUSED True" "$(connects frontend $a 81)"
	same "an outsider is refused by RST ($a)" "ECONNREFUSED True" "$(connects outside $a 80)"
	same "an outsider is refused on the plain port too ($a)" "ECONNREFUSED True" "$(connects outside $a 7000)"
	same "the node's own host passes ($a)" "connected True" "$(connects node $a 80)"
	same "getpeername of a captured socket is what was dialled ($a)" "connected True" "$(connects frontend $a 80)"
done
recorded "the kernel's refusal names process and rule" \
	'.verdict == "denied" and .reason == "policy_l4" and .errno == "ECONNREFUSED" and .comm == "python3" and .pid > 0 and (.cgroup | startswith("/")) and .policy == "shop/api" and (.rule | startswith("conf.d/20-policy.yaml:"))'
recorded "the refusal of an outsider is inbound" '.verdict == "denied" and .direction == "inbound" and .reason == "policy_l4"'
same "refusals are counted" 1 "$(($(metric 'shunt_kernel_denials_total{reason="policy_l4"}') >= 8))"

# Only what an L7 rule selects goes through the proxy.
before=$(metric shunt_captured_connections_total)
opened=$(metric istio_tcp_connections_opened_total)
for i in 1 2 3 4 5; do
	curl_from frontend http://10.78.0.12:7000/x >/dev/null
	curl_from api http://10.78.0.11:9000/x >/dev/null
	curl_from intruder http://10.78.0.11:9000/x >/dev/null
	curl_from frontend http://10.78.0.99:9001/x >/dev/null
	curl_from outside http://10.78.0.11:9000/x >/dev/null
	curl_from frontend http://127.0.0.1:9000/x >/dev/null
	curl_from frontend http://10.78.0.11:9000/x >/dev/null
done
same "35 connections that no L7 rule selects stay direct" "$before" "$(metric shunt_captured_connections_total)"
same "... and the proxy accepted none" "$opened" "$(metric istio_tcp_connections_opened_total)"
same "... all of them served" "200" "$(curl_from frontend http://10.78.0.12:7000/x)"
curl_from frontend http://10.78.0.12/public/x >/dev/null
sleep 0.3
same "one that an L7 rule selects does not" $((before + 1)) "$(metric shunt_captured_connections_total)"

# Egress rules, default deny, and port 53.
config_write <<'DOC'
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: frontend-out, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: frontend}}
  egress:
  - toEndpoints: [{matchLabels: {app: api}}]
    toPorts:
    - ports: [{port: "80", protocol: TCP}]
      rules: {http: [{method: GET}]}
DOC
holds "reload takes new documents" shunt_ reload
same "egress: what the rule names is allowed" 200 "$(curl_from frontend http://10.78.0.12/anything)"
same "egress: its http rule is enforced" 403 "$(curl_from frontend -X POST http://10.78.0.12/anything)"
same "egress: another port is refused" "ECONNREFUSED True" "$(connects frontend 10.78.0.12 7000)"
same "egress: the world is refused" "ECONNREFUSED True" "$(connects frontend 10.78.0.99 9001)"
same "egress: others are not concerned" "connected True" "$(connects intruder 10.78.0.12 7000)"
same "the same policy does not stop what comes in" "connected True" "$(connects outside 10.78.0.11 9000)"

# Rules without effect on their own traps.
config_write <<'DOC'
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: nothing, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: api}}
  ingress: [{}]
DOC
shunt_ reload >/dev/null
same "ingress: [{}] of a CiliumNetworkPolicy allows nothing" "ECONNREFUSED True" "$(connects frontend 10.78.0.12 80)"
config_write </dev/null
shunt_ reload >/dev/null
same "without policies everything is open again" "connected True" "$(connects intruder 10.78.0.12 80)"
finish
