# SPDX-License-Identifier: Apache-2.0
# Workloads of other nodes: what they send is steered to the proxy here, and what is sent to
# them is dialled from the sender's own namespace and address.
. "$(dirname "$0")/lib.sh"
box_up "remote-$$"
nginx_start api 80
nginx_start outside 80
OPTIONS="connectTimeout: 1s" config_write <<'DOC'
# outside is a workload of another node: known by its address.
apiVersion: shunt.dev/v1
kind: Workload
metadata: {name: elsewhere, namespace: shop}
spec: {labels: {app: elsewhere}, addresses: ["10.78.0.99", "fd00:78::99"]}
---
# nobody answers at this one
apiVersion: shunt.dev/v1
kind: Workload
metadata: {name: silent, namespace: shop}
spec: {labels: {app: silent}, address: 10.78.0.200}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: api-in, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: api}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: elsewhere}}]
    toPorts:
    - ports: [{port: "80", protocol: TCP}]
      rules: {http: [{method: GET, path: "/public/.*"}]}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: frontend-out, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: frontend}}
  egress:
  - toEndpoints: [{matchLabels: {app: elsewhere}}, {matchLabels: {app: silent}}]
    toPorts:
    - ports: [{port: "80", protocol: TCP}]
      rules: {http: [{method: GET}]}
DOC
daemon_start || exit 1

for a in 10.78.0.12 '[fd00:78::12]'; do
	same "a request from another node is allowed by its rule ($a)" 200 "$(curl_from outside "http://$a/public/a")"
	holds "... the server sees the client's true address" grep -qE 'from (10.78.0.99|fd00:78::99)$' "$TMP/body"
	same "... or refused ($a)" 403 "$(curl_from outside "http://$a/private")"
done
recorded "its record is inbound and names both" \
	'.direction == "inbound" and .status == 403 and ."src.workload" == "elsewhere" and ."dst.workload" == "api" and .security == "plaintext"'
same "ten requests on kept connections from another node" 10 \
	"$(in_ns outside curl -s -m 10 'http://10.78.0.12/public/[1-10]' | wc -l)"
for a in 10.78.0.99 '[fd00:78::99]'; do
	same "a request to another node is allowed by its rule ($a)" 200 "$(curl_from frontend "http://$a/x")"
	holds "... dialled from the sender's own address" grep -qE 'from (10.78.0.11|fd00:78::11)$' "$TMP/body"
	same "... or refused ($a)" 403 "$(curl_from frontend -X POST "http://$a/x")"
done
recorded "its record is outbound" '.direction == "outbound" and .status == 403 and ."dst.workload" == "elsewhere" and .security == "plaintext"'
same "who does not answer is given up after connectTimeout" 504 "$(curl_from frontend http://10.78.0.200/x)"
recorded "... and the record says so" \
	'.status == 504 and .reason == "connect_timeout" and .t_connect > 900000000 and .t_connect < 2500000000'
# A steered connection holds the application's port in our socket: it may restart all the same.
exec 7<>"$TMP/fifo" 2>/dev/null || { mkfifo "$TMP/fifo"; exec 7<>"$TMP/fifo"; }
in_ns outside nc 10.78.0.12 80 <&7 >/dev/null 2>&1 &
PIDS+=($!)
printf 'GET /public/held HTTP/1.1\r\nHost: a\r\n\r\n' >&7
wait_record '.path == "/public/held"' >/dev/null
kill "${PIDS[0]}"
wait "${PIDS[0]}" 2>/dev/null
nginx_start api 80
same "an application restarts while a steered connection is open" 200 "$(curl_from outside http://10.78.0.12/public/a)"
same "the daemon's listeners cannot be dialled from outside" 7 \
	"$(port=$(in_ns api ss -Hltn | awk '$4 ~ /^127.0.0.1:/ {sub(/.*:/, "", $4); print $4; exit}'); in_ns outside curl -s -m 5 "http://10.78.0.12:$port/" >/dev/null; echo $?)"
port=$(in_ns api ss -Hltn | awk '$4 ~ /^127.0.0.1:/ && $4 !~ /:1080$/ {sub(/.*:/, "", $4); print $4; exit}')
holds "one that dials a listener itself gets nothing" bash -c "! nsenter --net=/run/netns/$BOX-api curl -s -m 5 http://127.0.0.1:$port/"
recorded "... and the record says why" '.reason == "origdst_unknown"'
finish
