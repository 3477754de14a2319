# SPDX-License-Identifier: Apache-2.0
# Every system call of the daemon fails once, and then many by chance (test/fault): what both ends
# of a connection get is whole or an abort that can be seen, and afterwards the daemon serves.
# ROUNDS=10 is the long form.
. "$(dirname "$0")/lib.sh"
box_up "faults-$$"
SHIM=$B/test/fault/shim.so
PLAN=$TMP/plan

# The real program, with the shim in it. A sanitizer wants to be asked first, and need not be.
wrap_shuntd() {
	cat >"$TMP/shuntd" <<-WRAP
	#!/bin/bash
	export FAULT_PLAN=$PLAN LD_PRELOAD=$SHIM
	export ASAN_OPTIONS=verify_asan_link_order=0:\${ASAN_OPTIONS:-}
	exec $B/shuntd "\$@"
	WRAP
	chmod +x "$TMP/shuntd"
	head -c 65536 /dev/zero >"$PLAN"
	SHUNTD=$TMP/shuntd
}

policy() {
	cat <<-DOC
	apiVersion: cilium.io/v2
	kind: CiliumNetworkPolicy
	metadata: {name: api, namespace: shop}
	spec:
	  endpointSelector: {matchLabels: {app: api}}
	  ingress:
	  - fromEndpoints: [{matchLabels: {app: frontend}}]
	    toPorts:
	    - ports: [{port: "80", protocol: TCP}]
	      rules: {http: [{path: "/f/.*"}, {method: CONNECT}]}
	    - ports: [{port: "7000", protocol: TCP}, {port: "7001", protocol: TCP}]
	DOC
}

# faults PARTS serve|start ARGUMENTS...: counts what it checked.
faults() {
	local parts=$1
	shift
	PARTS=${PARTS-$parts} in_ns node python3 test/fault/faults.py "$1" "$SHIM" "$PLAN" "${@:2}" >"$TMP/out" 2>&1
	local status=$?
	if [ $status -ne 0 ]; then # it may hang
		daemon_stop KILL
		rm -f "$RUN/admin.sock"
	fi
	cat "$TMP/out"
	PASSED=$((PASSED + $(grep -c '^ok - ' "$TMP/out")))
	FAILED=$((FAILED + $(grep -c '^not ok - ' "$TMP/out")))
	[ $status -le 1 ] && grep -qE '^(not )?ok - ' "$TMP/out" || not_ok "the faults of $1" "status $status"
}

# serve PARTS CAPTURED|LISTENERS HTTP STREAM FIRST
serve() {
	faults "$1" serve "$DAEMON" "/run/netns/$BOX-frontend" "/run/netns/$BOX-node" \
		"/run/netns/$BOX-api" "$LOG" "$RUN/admin.sock" "${@:2}"
}

# starts captured|listeners ADDRESS: of a daemon that does not run now.
starts() {
	local name=${BOX#shunt-}
	[[ " ${PARTS-starts} " == *" starts "* ]] || return 0
	faults "" start "$1" "/run/netns/$BOX-frontend" "/run/netns/$BOX-api" "$2" "$RUN" "$BPFFS/shunt" \
		"$B/shunt --run-dir $RUN --name $name detach --bpffs $BPFFS" \
		"$SHUNTD" --config "$TMP/config" --name "$name" --run-dir "$RUN" \
		--state-dir "$TMP/state" --bpffs "$BPFFS"
}

wrap_shuntd
OPTIONS="capture: off
workers: 2
listeners:
- {address: 10.78.0.1, port: 8080, workload: shop/api, upstream: \"10.78.0.12:80\"}
- {address: 10.78.0.1, port: 7000, workload: shop/api, upstream: \"10.78.0.12:7000\"}
- {address: 10.78.0.1, port: 7001, workload: shop/api, upstream: \"10.78.0.12:7001\"}" \
	config_write < <(policy)
sed -i "s|selectors: .*-frontend\"\]|addresses: [10.78.0.11]|
	s|selectors: .*-api\"\]|addresses: [10.78.0.12]|
	s|selectors: .*-intruder\"\]|addresses: [10.78.0.13]|" "$TMP/config/conf.d/10-workloads.yaml"
echo "# explicit listeners"
starts listeners 10.78.0.1:8080
daemon_start || exit 1
serve "systematic by_chance log_thread control_thread" listeners \
	10.78.0.1:8080 10.78.0.1:7000 10.78.0.1:7001
daemon_stop

OPTIONS="workers: 2" config_write < <(policy)
echo "# captured"
starts captured 10.78.0.12:80
daemon_start || exit 1
force_proxy 7000 7001
serve "systematic by_chance" captured 10.78.0.12:80 10.78.0.12:7000 10.78.0.12:7001
daemon_stop

pins() { find "$BPFFS/shunt" -type f | sort; }
before=$(pins)
touch "$RUN/admin.sock"
daemon_start 2>/dev/null && not_ok "a start whose admin socket cannot be made fails"
wait "$DAEMON"
DAEMON=
same "a start that fails leaves what a daemon before it pinned ($(pins | wc -l) pins)" "$before" "$(pins)"
same "... which judges on" 000 "$(curl_from frontend http://10.78.0.12/f/w/length/1)"
finish
