# SPDX-License-Identifier: Apache-2.0
# The table of hostile HTTP/1 messages through the daemon, judged by the bytes that a recording
# server received: see test/peer/smuggling.py.
. "$(dirname "$0")/lib.sh"
box_up "smuggling-$$"
OPTIONS="accessLog: {path: $TMP/access.log, query: true}"
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
      rules: {http: [{path: ".*"}, {method: CONNECT}]}
DOC
sed -i 1d "$TMP/config/shunt.yaml" # its own accessLog is above
nginx_start api 80
daemon_start || exit 1

# Debian's python, which has Debian's h11.
/usr/bin/python3 test/peer/smuggling.py "$BOX-frontend" "$BOX-api" 10.78.0.12 8080 "$LOG" >"$TMP/judged" 2>&1
same "the table was played to its end" 0 $?
while read -r line; do
	case $line in
	"ok - "*) ok "${line#ok - }" ;;
	*) not_ok "${line#not ok - }" ;;
	esac
done <"$TMP/judged"

finish
