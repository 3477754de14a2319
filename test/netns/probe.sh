# SPDX-License-Identifier: Apache-2.0
# What the probe says of this kernel: the same as other programs say, and nothing is left of it
# however it ends. Each line "probe NAME STATE DETAIL" is its answer here.
. "$(dirname "$0")/lib.sh"
REPORT=$B/test/probe/report
box_up "probe-$$"

# soon COMMAND...: true at once or within five seconds (less than a hanging trial is given).
soon() {
	local tries=$((50 * FACTOR))
	until "$@"; do
		tries=$((tries - 1))
		[ $tries -gt 0 ] || return 1
		sleep 0.1
	done
}

state_of() { awk -v name="$1" '$2 == name { print $3 }' "$TMP/first"; }
cgroup_of() { echo "$(cgroup_root)/shunt-probe-$1"; }
# the kernel frees programs and maps a while after their last user
is_unloaded() {
	! { bpftool prog show; bpftool map show; } 2>/dev/null | grep -q 'name probe[._]'
}
is_gone() { [ ! -e "$1" ]; }
has_ended() { ! kill -0 "$1" 2>/dev/null; }

# ---- what it says ----

if "$REPORT" >"$TMP/first" 2>"$TMP/err"; then
	ok "the probe leaves its caller as it was: namespace, cgroup, descriptors, children"
else
	not_ok "the probe leaves its caller as it was" "$(cat "$TMP/err")"
fi
cat "$TMP/first"
count=$(wc -l <"$TMP/first")
"$REPORT" json >"$TMP/json"
same "what shuntd cannot run without is named" \
	"cgroup_connect cgroup_getpeername mmap_array netns_cookie ring_buffer sk_lookup sockmap_liveness sockops" \
	"$(jq -r '[.[] | select(.required) | .name] | sort | join(" ")' "$TMP/json")"
same "... and all of it works here" "" \
	"$(jq -r '.[] | select(.required and .state != "ok") | .name + ": " + .detail' "$TMP/json")"
same "everything else says what is used instead" "" \
	"$(jq -r '.[] | select(.required | not) | select((.fallback // "") == "") | .name' "$TMP/json")"
same "a second run says the same" "$(cut -d' ' -f2,3 "$TMP/first")" \
	"$(jq -r '.[] | .name + " " + .state' "$TMP/json")"
"$REPORT" metrics >"$TMP/metrics"
same "promtool has nothing to say about its metrics" "" "$(promtool check metrics <"$TMP/metrics" 2>&1)"
same "... one sample for each" "$count" "$(grep -c '^shunt_capability{.*} 1$' "$TMP/metrics")"

# ---- what others say ----

python3 - >"$TMP/python" <<'PY'
import os, socket
def yes(name, does): print(name, "ok" if does else "missing")
l = socket.create_server(("127.0.0.1", 0))
c = socket.create_connection(l.getsockname())
try:
    c.setsockopt(socket.IPPROTO_TCP, 31, b"tls")
    yes("ulp", True)
except OSError:
    yes("ulp", False)
try:
    socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
    yes("mptcp", True)
except OSError:
    yes("mptcp", False)
yes("tls_stat", os.path.exists("/proc/net/tls_stat"))
PY
says() { awk -v name="$1" '$1 == name { print $2 }' "$TMP/python"; }
same "MPTCP: python says the same" "$(says mptcp)" "$(state_of mptcp)"
same "kernel TLS: /proc/net/tls_stat is there if TCP_ULP takes \"tls\"" "$(says ulp)" "$(says tls_stat)"
for name in $(awk '$2 ~ /^ktls_[rt]x_/ { print $2 }' "$TMP/first"); do
	if grep -q "^probe $name missing .*module" "$TMP/first"; then
		skip "$name" "the kernel has TLS without this cipher"
	else
		same "$name: python's TCP_ULP says the same" "$(says ulp)" "$(state_of "$name")"
	fi
done

# A function of the kernel's that is there if, and only if, the mechanism is.
if [ -r /sys/kernel/btf/vmlinux ]; then
	bpftool btf dump file /sys/kernel/btf/vmlinux format raw |
		sed -n "s/^.* FUNC '\(bpf_iter_tcp\|bpf_sock_destroy\|bpf_rdonly_cast\|sock_map_link_create\)' .*/\1/p" \
			>"$TMP/functions"
	while read -r name function; do
		there=missing
		grep -qx "$function" "$TMP/functions" && there=ok
		same "$name: the kernel's types say the same" "$there" "$(state_of "$name")"
	done <<-LIST
	iter_tcp bpf_iter_tcp
	bpf_sock_destroy bpf_sock_destroy
	rdonly_cast bpf_rdonly_cast
	sockmap_link sock_map_link_create
	LIST
else
	skip "iter_tcp and others against the kernel's types" "no /sys/kernel/btf/vmlinux"
fi

# ss lists and kills a connection in a namespace of its own.
unshare --net python3 - >"$TMP/ss" <<'PY'
import socket, subprocess
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
l = socket.create_server(("127.0.0.1", 0))
c = socket.create_connection(l.getsockname())
port = c.getsockname()[1]
listed = subprocess.run(["ss", "-Hltn", "--cgroup"], capture_output=True, text=True).stdout
print("sock_diag", "ok" if "cgroup:" in listed else "missing")
subprocess.run(["ss", "-K", "sport", "=", str(port)], capture_output=True)
c.settimeout(5)
try:
    c.recv(1)
    print("sock_destroy ok")
except ConnectionAbortedError:
    print("sock_destroy ok")
except TimeoutError:
    print("sock_destroy missing")
PY
for name in sock_diag sock_destroy; do
	same "$name: ss says the same" "$(awk -v name=$name '$1 == name { print $2 }' "$TMP/ss")" \
		"$(state_of $name)"
done

config_write <test/netns/policy.yaml
daemon_start || exit 1
same "beside a running shuntd it says the same" "$(cut -d' ' -f2,3 "$TMP/first")" \
	"$("$REPORT" | cut -d' ' -f2,3)"
same "... which has nothing to record of it" "" "$(cat "$LOG" 2>&1)"
daemon_stop

# ---- what is left ----

holds "no program and no map of it is left in the kernel" soon is_unloaded
# in a mount namespace of its own, where nobody else mounts
same "... no mount" "" "$(unshare --mount sh -c "cat /proc/self/mountinfo >$TMP/before
	$REPORT >/dev/null
	diff $TMP/before /proc/self/mountinfo" 2>&1)"
"$REPORT" >/dev/null &
RUNNING=$!
wait $RUNNING
holds "... no cgroup" is_gone "$(cgroup_of $RUNNING)"

# Short of descriptors it ends, and says so.
for limit in 4 5 6 7 9 12 20; do
	(ulimit -n $limit && exec "$REPORT") >"$TMP/short" 2>"$TMP/err"
	same "with $limit descriptors it has an answer for each" "0 $count" "$? $(wc -l <"$TMP/short")"
done
holds "... and says what was short" grep -q 'failed .*Too many open files' <(
	ulimit -n 7 && exec "$REPORT" 2>&1)

chmod 755 "$TMP"
cp "$REPORT" "$TMP/report"
chmod 755 "$TMP/report"
same "without privilege everything has failed, and says why" "$count" \
	"$(setpriv --reuid 65534 --regid 65534 --clear-groups "$TMP/report" 2>/dev/null |
		grep -c ' failed .*root is needed')"

# ---- when things go wrong ----

# start_and_catch: starts a run; the process that runs the trials and the trial under way are
# in $ROOM and $TRIAL, the trial stopped. A run that ends too early is tried again.
start_and_catch() {
	local runs
	for runs in 1 2 3 4 5 6 7 8 9 10; do
		"$REPORT" >"$TMP/caught" 2>"$TMP/err" &
		RUNNING=$!
		until has_ended $RUNNING; do
			ROOM=$(pgrep -P $RUNNING) && TRIAL=$(pgrep -P "$ROOM") &&
				kill -STOP "$TRIAL" 2>/dev/null &&
				grep -q '^[0-9]* (.*) T' "/proc/$TRIAL/stat" 2>/dev/null && return 0
		done
		wait $RUNNING
	done
	return 1
}

if start_and_catch; then
	wait $RUNNING
	same "a trial that hangs is given up" 1 "$(grep -c ' failed no end after 10 s$' "$TMP/caught")"
	same "... and the others are still run" "$count $((count - 1))" \
		"$(wc -l <"$TMP/caught") $(grep -vc 'no end after' "$TMP/caught")"
else
	not_ok "a trial that hangs is given up" "no run was caught under way"
fi
if start_and_catch; then
	kill -KILL "$TRIAL"
	wait $RUNNING
	same "a trial that dies is a result" 1 "$(grep -c ' failed ended by signal 9 ' "$TMP/caught")"
else
	not_ok "a trial that dies is a result" "no run was caught under way"
fi
if start_and_catch; then
	cgroup=$(cgroup_of $RUNNING)
	holds "(a run is under way: its cgroup is there)" test -d "$cgroup"
	kill -KILL $RUNNING
	wait $RUNNING 2>/dev/null
	holds "when the caller is killed, its cgroup goes" soon is_gone "$cgroup"
	holds "... and its processes" soon has_ended "$ROOM"
	holds "... all of them" soon has_ended "$TRIAL"
else
	not_ok "when the caller is killed, its cgroup goes" "no run was caught under way"
fi
if start_and_catch; then
	kill -KILL "$ROOM"
	wait $RUNNING
	same "when what runs the trials is killed, all have an answer" "$count" "$(wc -l <"$TMP/caught")"
	holds "... the cgroup goes" soon is_gone "$(cgroup_of $RUNNING)"
	holds "... and the trial" soon has_ended "$TRIAL"
else
	not_ok "when what runs the trials is killed, all have an answer" "no run was caught under way"
fi
holds "after all that no program and no map is left" soon is_unloaded
finish
