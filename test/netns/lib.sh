# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# A node in a box: namespaces, a daemon, and the few words tests are written in. Sourced.
#
#   frontend 10.78.0.11   api 10.78.0.12   intruder 10.78.0.13   outside 10.78.0.99
#        |                    |                 |                     |  (in no document)
#   -----+--------------------+-----------------+---------------------+------ br0, 10.78.0.1
#                              node (the daemon's own namespace)
#
# Every address has a twin fd00:78::11 ... Traffic never leaves these namespaces. `nsenter`
# and not `ip netns exec`: the latter hides /sys/fs/cgroup and /sys/fs/bpf.

: "${B:=build}"
: "${FACTOR:=1}" # of time limits, for emulated kernels
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
case $B in /*) ;; *) B=$ROOT/$B ;; esac

SHUNTD=$B/shuntd
WORKLOADS="frontend api intruder"

# box_up NAME: everything below is called shunt-NAME-...
box_up() {
	BOX=shunt-$1
	TMP=$(mktemp -d "/tmp/$BOX.XXXXXX")
	RUN=$TMP/run
	LOG=$TMP/access.log
	BPFFS=$TMP/bpf
	PIDS=()
	CGROUPS=()
	DAEMON=
	trap 'box_down' EXIT
	# A second Ctrl-C must not interrupt the cleaning up.
	trap 'trap "" INT TERM; exit 130' INT TERM
	mkdir -p "$BPFFS" "$TMP/config/conf.d"
	mount -t bpf bpf "$BPFFS"
	ip netns add "$BOX-node"
	in_ns node ip link set lo up
	in_ns node ip link add br0 type bridge
	in_ns node ip addr add 10.78.0.1/24 dev br0
	in_ns node ip addr add fd00:78::1/64 dev br0 nodad
	in_ns node ip link set br0 up
	local number=11 name
	for name in $WORKLOADS; do
		box_add "$name" $number
		number=$((number + 1))
	done
	box_add outside 99
}

# box_add NAME NUMBER: one more namespace on the bridge.
box_add() {
	ip netns add "$BOX-$1"
	in_ns node ip link add "v$2" type veth peer name eth0 netns "$BOX-$1"
	in_ns node ip link set "v$2" master br0 up
	in_ns "$1" ip link set lo up
	in_ns "$1" ip addr add "10.78.0.$2/24" dev eth0
	in_ns "$1" ip addr add "fd00:78::$2/64" dev eth0 nodad
	in_ns "$1" ip link set eth0 up
	in_ns "$1" ip route add default via 10.78.0.1
}

# in_ns NAME COMMAND...: with CGROUP=/PATH before it, in that cgroup too.
in_ns() {
	local name=$1
	shift
	if [ -n "${CGROUP:-}" ]; then
		set -- "$ROOT/test/netns/in_cgroup" "$(cgroup_root)$CGROUP" "$@"
	fi
	nsenter --net="/run/netns/$BOX-$name" "$@"
}

# start_in NAME COMMAND...: in the background, ended by box_down; its pid is in $STARTED.
start_in() {
	local name=$1
	shift
	if [ -n "${CGROUP:-}" ]; then
		set -- "$ROOT/test/netns/in_cgroup" "$(cgroup_root)$CGROUP" "$@"
	fi
	nsenter --net="/run/netns/$BOX-$name" "$@" </dev/null >>"$TMP/$name.out" 2>&1 &
	STARTED=$!
	PIDS+=("$STARTED")
}

box_down() {
	local status=$? pid name dir
	trap - EXIT
	trap '' INT TERM
	# Also one that a signal came too early for to be in PIDS or DAEMON.
	for pid in "${PIDS[@]}" $(jobs -p); do
		[ "$pid" = "$DAEMON" ] || kill "$pid" 2>/dev/null
	done
	local tries=50
	while [ $tries -gt 0 ] && pgrep -P $$ -x shuntd | grep -qvx "${DAEMON:-none}"; do
		tries=$((tries - 1))
		sleep 0.1
	done
	daemon_detach
	for pid in "${PIDS[@]}"; do
		kill -9 "$pid" 2>/dev/null
		wait "$pid" 2>/dev/null
	done
	for name in $(ip netns list 2>/dev/null | awk '{print $1}' | grep "^$BOX-"); do
		ip netns del "$name"
	done
	for dir in "${CGROUPS[@]}"; do
		cgroup_remove "$dir"
	done
	umount "$BPFFS" 2>/dev/null
	if [ "$status" -ne 0 ] && [ -n "${KEEP:-}" ]; then
		echo "# kept: $TMP" >&2
	else
		rm -rf "$TMP"
	fi
	exit "$status"
}

# ---- the daemon ----

# box_documents: the workloads of the box, as documents.
box_documents() {
	local name
	for name in $WORKLOADS; do
		cat <<-DOC
		apiVersion: shunt.dev/v1
		kind: Workload
		metadata: {name: $name, namespace: shop}
		spec:
		  labels: {app: $name}
		  serviceAccount: $name
		  selectors: ["netns:/run/netns/$BOX-$name"]
		---
		DOC
	done
}

# config_write: conf.d and shunt.yaml for this box; policies come from standard input.
config_write() {
	box_documents >"$TMP/config/conf.d/10-workloads.yaml"
	cat >"$TMP/config/conf.d/20-policy.yaml"
	cat >"$TMP/config/shunt.yaml" <<-DOC
	accessLog: {path: $LOG}
	metrics: {address: "127.0.0.1:15020"}
	${OPTIONS:-}
	DOC
}

# outside_is_frontend: outside becomes a remote workload that has frontend's rights.
outside_is_frontend() {
	cat >"$TMP/config/conf.d/30-remote.yaml" <<-DOC
	apiVersion: shunt.dev/v1
	kind: Workload
	metadata: {name: remote, namespace: shop}
	spec: {labels: {app: frontend}, addresses: [10.78.0.99]}
	DOC
}

shunt_() { "$B/shunt" --run-dir "$RUN" "$@"; }

daemon_start() {
	touch "$TMP/shuntd.log"
	local before # of one that ended by itself, as after shunt detach, the log is still there
	before=$(grep -c ' runs, revision ' "$TMP/shuntd.log")
	nsenter --net="/run/netns/$BOX-node" "$SHUNTD" --config "$TMP/config" --name "${BOX#shunt-}" \
		--run-dir "$RUN" --state-dir "$TMP/state" --bpffs "$BPFFS" </dev/null >>"$TMP/shuntd.log" 2>&1 &
	DAEMON=$!
	local tries=$((100 * FACTOR))
	while [ $tries -gt 0 ] && kill -0 "$DAEMON" 2>/dev/null; do
		[ -S "$RUN/admin.sock" ] && [ "$(grep -c ' runs, revision ' "$TMP/shuntd.log")" -gt "$before" ] && return 0
		sleep 0.05
		tries=$((tries - 1))
	done
	echo "# the daemon did not start:" >&2
	sed 's/^/#   /' "$TMP/shuntd.log" >&2
	return 1
}

daemon_stop() { # [SIGNAL]
	[ -n "$DAEMON" ] || return 0
	kill "-${1:-TERM}" "$DAEMON" 2>/dev/null
	wait "$DAEMON" 2>/dev/null
	local status=$?
	DAEMON=
	[ "${1:-TERM}" = KILL ] || [ $status -eq 0 ] || echo "shuntd ended with status $status" >>"$TMP/shuntd.log"
	cat "$TMP/shuntd.log" >>"$TMP/shuntd.log.old"
	: >"$TMP/shuntd.log"
}

daemon_detach() {
	[ -n "${BOX:-}" ] || return 0
	daemon_stop
	"$B/shunt" --run-dir "$RUN" --name "${BOX#shunt-}" detach --bpffs "$BPFFS" >/dev/null 2>&1
	rmdir "$(cgroup_root)/$BOX" "$(cgroup_root)/$BOX"-* 2>/dev/null
}

cgroup_root() { awk '$0 ~ / - cgroup2 / {print $5; exit}' /proc/self/mountinfo; }

# cgroup_make /NAME[/...]: /NAME and what is below it is removed by box_down.
cgroup_make() {
	local top=${1#/}
	CGROUPS+=("/${top%%/*}")
	mkdir -p "$(cgroup_root)$1"
}

# cgroup_remove /PATH: with what is below it, once its processes have ended.
cgroup_remove() {
	local dir tries=$((50 * FACTOR))
	dir=$(cgroup_root)$1
	while [ -e "$dir" ] && [ $tries -gt 0 ]; do
		find "$dir" -depth -type d -exec rmdir {} + 2>/dev/null && return
		tries=$((tries - 1))
		sleep 0.1
	done
	[ ! -e "$dir" ]
}

# force_proxy PORT...: no document of this version asks for a connection of any bytes, so every
# entry of the kernel's policy map for these ports becomes PROXY (2) by hand. The daemon's own
# policy says DIRECT, and it relays what it cannot read. Until the next reload.
force_proxy() {
	local map=$BPFFS/shunt/${BOX#shunt-}/v2/policy port key rule
	for port in "$@"; do
		bpftool -j map dump pinned "$map" | jq -r '.[] | [(.key | map(ltrimstr("0x")) | join(" ")), (.value[4:] | map(ltrimstr("0x")) | join(" "))] | @tsv' |
			while IFS=$'\t' read -r key rule; do
				case $key in
				*" $(printf '%02x %02x' $((port >> 8)) $((port & 255))) "*) # shellcheck disable=SC2086
					bpftool map update pinned "$map" key hex $key value hex 02 00 00 00 $rule ;;
				esac
			done
	done
}

fds() { find "/proc/$DAEMON/fd" -mindepth 1 | wc -l; }

# metric PREFIX: the sum of the samples whose lines begin so.
metric() { in_ns node curl -s http://127.0.0.1:15020/metrics | awk -v m="$1" 'index($0, m) == 1 {s += $NF} END {printf "%d", s}'; }

# ---- servers and clients ----

# nginx_start NAMESPACE PORT [NAME]: answers every path with its own name, keeps connections.
nginx_start() {
	local dir=$TMP/nginx-$1-$2
	mkdir -p "$dir"
	cat >"$dir/nginx.conf" <<-CONF
	daemon off; worker_processes 1; pid $dir/pid; error_log $dir/error.log;
	events { worker_connections 512; }
	http {
	  access_log $dir/access.log; client_max_body_size 0;
	  client_body_temp_path $dir/b; proxy_temp_path $dir/p; fastcgi_temp_path $dir/f;
	  uwsgi_temp_path $dir/u; scgi_temp_path $dir/s;
	  server {
	    listen $2; listen [::]:$2;
	    root $dir/www;
	    location / { add_header x-peer \$remote_addr; return 200 "${3:-$1} \$request_method \$request_uri from \$remote_addr\n"; }
	    location /public/file { alias $dir/www/; }
	    location /public/upload { proxy_request_buffering on; proxy_pass http://127.0.0.1:$(($2 + 1000))/; }
	  }
	  server {
	    listen 127.0.0.1:$(($2 + 1000));
	    location / { return 200 "got \$content_length\n"; }
	  }
	}
	CONF
	mkdir -p "$dir/www"
	chmod 755 "$TMP" "$dir" "$dir/www"
	start_in "$1" nginx -c "$dir/nginx.conf" -e "$dir/error.log"
	wait_listening "$1" "$2"
}

# wait_listening NAMESPACE PORT
wait_listening() {
	local tries=$((100 * FACTOR))
	until in_ns "$1" ss -Hltn "sport = :$2" | grep -q .; do
		tries=$((tries - 1))
		[ $tries -gt 0 ] || { echo "# nobody listens on $2 in $1" >&2; return 1; }
		sleep 0.05
	done
}

# curl_from NAMESPACE ARGUMENTS...: the status code; the body is in $TMP/body.
curl_from() {
	local name=$1
	shift
	in_ns "$name" curl -s -m $((10 * FACTOR)) -o "$TMP/body" -w '%{http_code}' "$@"
}

# curl_status NAMESPACE URL: curl's own status; 7 is "connection refused".
curl_status() {
	in_ns "$1" curl -s -m $((10 * FACTOR)) -o /dev/null "$2"
	echo $?
}

# wait_record JQ-CONDITION: the newest record for which it holds, within two seconds.
wait_record() {
	local tries=$((40 * FACTOR)) found
	while [ $tries -gt 0 ]; do
		found=$(jq -Rc "fromjson? | select($1)" "$LOG" 2>/dev/null | tail -n 1)
		if [ -n "$found" ]; then
			echo "$found"
			return 0
		fi
		sleep 0.05
		tries=$((tries - 1))
	done
	return 1
}

# wait_until COMMAND...: until it succeeds, within some ten seconds.
wait_until() {
	local tries=$((200 * FACTOR))
	until "$@"; do
		tries=$((tries - 1))
		[ $tries -gt 0 ] || return 1
		sleep 0.05
	done
}

# ---- results ----

PASSED=0
FAILED=0
SKIPPED=0

ok() {
	PASSED=$((PASSED + 1))
	echo "ok - $1"
}
not_ok() {
	FAILED=$((FAILED + 1))
	echo "not ok - $1${2:+: $2}"
}
skip() {
	SKIPPED=$((SKIPPED + 1))
	echo "skip - $1: $2"
}

# same SENTENCE EXPECTED ACTUAL
same() {
	if [ "$2" = "$3" ]; then ok "$1"; else not_ok "$1" "expected '$2', got '$3'"; fi
}

# holds SENTENCE COMMAND...
holds() {
	local sentence=$1
	shift
	if "$@"; then ok "$sentence"; else not_ok "$sentence" "$* failed"; fi
}

# recorded SENTENCE JQ-CONDITION
recorded() {
	if wait_record "$2" >"$TMP/record"; then
		ok "$1"
	else
		not_ok "$1" "no record with $2; last: $(tail -n 2 "$LOG" 2>/dev/null)"
	fi
}

# The identity of the clocks, on every record of the whole run, exactly. A daemon that is killed
# may leave half a line.
check_times() {
	local bad
	bad=$(jq -Rc 'fromjson? | select((.t_accept + .t_queue + .t_head + .t_policy + .t_work + .t_connect +
		.t_tls + .t_body + .t_send + .t_wait + .t_recv + .t_flush + .t_open != .t_total) or
		(.t_queue + .t_policy + .t_work != .t_proxy))' "$LOG" | head -n 3)
	same "every record's clocks add up exactly ($(wc -l <"$LOG") records)" "" "$bad"
}

# What a sanitizer or an assertion had to say, of every daemon of this run.
check_daemon() {
	[ -n "${BOX:-}" ] || return
	daemon_stop
	same "no daemon complained or ended badly" "" \
		"$(grep -hE -A 12 'Sanitizer|runtime error:|Assertion|ended with status' "$TMP"/shuntd.log* 2>/dev/null | head -n 40)"
}

finish() {
	[ -s "$LOG" ] && check_times
	check_daemon
	echo "$PASSED passed, $FAILED failed, $SKIPPED skipped"
	[ "$FAILED" -eq 0 ]
	exit
}
