# SPDX-License-Identifier: Apache-2.0
# What the daemon may: what each of its threads keeps after start, that it does all its work
# with that, and that a user who is not root can run it.
. "$(dirname "$0")/lib.sh"
box_up "privilege-$$"
NAME=${BOX#shunt-}
nginx_start api 80
OPTIONS="workers: 2"
config_write <test/netns/policy.yaml
NEEDED="bpf net_admin sys_admin dac_override"
serves() { # SENTENCE
	same "$1" "403 200 7" "$(curl_from frontend http://10.78.0.12/private) $(curl_from frontend http://10.78.0.12/public/a) $(
		in_ns intruder curl -s -m 5 http://10.78.0.12/public/a >/dev/null
		echo $?
	)"
}
quiet() { shunt_ "$@" >/dev/null 2>"$TMP/err"; }
left_behind() { # by a daemon that was detached
	find "$BPFFS/shunt" -mindepth 1 2>/dev/null
	in_ns frontend ip -6 route show table local | grep fd73
	ls -d "$(cgroup_root)/$BOX" 2>/dev/null
}
is_captured() { [ "$(shunt_ status -o json | jq -r --arg n "$1" '.workloads[] | select(.name == $n) | .state')" = captured ]; }
privileges() { shunt_ status -o json | jq -r '.subsystems[] | select(.name == "privileges") | .state + " " + .text'; }

# threads.py PID: one line for each kind of thread and what those of its kind hold.
cat >"$TMP/threads.py" <<'PY'
import glob, re, sys
names = {1: "dac_override", 2: "dac_read_search", 12: "net_admin", 19: "sys_ptrace", 21: "sys_admin", 39: "bpf"}
lines = set()
for task in glob.glob("/proc/%s/task/*" % sys.argv[1]):
    status = dict(re.findall(r"^(\w+):\s+(\S+)", open(task + "/status").read(), re.M))
    caps = {k: int(status["Cap" + k], 16) for k in ("Prm", "Eff", "Bnd", "Inh", "Amb")}
    all = caps["Prm"] | caps["Eff"] | caps["Bnd"] | caps["Inh"] | caps["Amb"]
    text = " ".join(names.get(n, str(n)) for n in range(64) if all >> n & 1) or "none"
    if not caps["Prm"] == caps["Eff"] == caps["Bnd"]: text += " (but not in each set)"
    if caps["Inh"] | caps["Amb"]: text += " (for programs, too)"
    if status["NoNewPrivs"] != "1": text += " (and what files give)"
    kind = "control" if task.endswith("/" + sys.argv[1]) else status["Name"]
    lines.add("%s: %s" % (kind, text))
print("\n".join(sorted(lines)))
PY
what_each_keeps="control: dac_override net_admin sys_ptrace bpf
shunt-log: dac_read_search
shunt-netns: net_admin sys_admin
shunt-worker: none"

# ---- root, and all it does later ----
daemon_start || exit 1
serves "it serves"
same "after start each thread has what it needs, in every set, and nothing more" "$what_each_keeps" \
	"$(python3 "$TMP/threads.py" "$DAEMON")"
same "shunt status shows it" "ok control cap_dac_override, cap_net_admin, cap_sys_ptrace, cap_bpf; namespaces cap_net_admin, cap_sys_admin; log cap_dac_read_search; workers none" \
	"$(privileges)"
chown 65534 "$TMP/config/conf.d"/*
chmod 600 "$TMP/config/conf.d"/*
holds "it reloads documents that only another user may read" quiet reload
box_add late 44
holds "it enrols a namespace that comes later" quiet workload add shop/late --netns "/run/netns/$BOX-late" --label app=frontend
same "... and judges it" "403 200" "$(curl_from late http://10.78.0.12/private) $(curl_from late http://10.78.0.12/public/a)"
start_in outside unshare --net sh -c 'ip link set lo up
	exec setpriv --reuid 65534 --regid 65534 --clear-groups sleep 600'
stranger=$STARTED
wait_until sh -c "[ \"\$(cat /proc/$stranger/comm)\" = sleep ]"
holds "... one by a process of another user" quiet workload add shop/stranger --pid "$stranger" --label app=x
mkdir -p "$(cgroup_root)/$BOX-work"
holds "... a cgroup of the host" quiet workload add shop/work --cgroup "/$BOX-work" --label app=frontend
same "... all are captured" "yes yes yes" "$(for w in late stranger work; do is_captured $w && echo yes; done | paste -sd' ')"
in_ns node sh -c "echo \$\$ >$(cgroup_root)/$BOX-work/cgroup.procs; exec curl -s -m 5 -o /dev/null http://10.78.0.12/public/host"
recorded "... its connections are, with the name of their cgroup" \
	".type == \"connection\" and .\"src.workload\" == \"work\" and .cgroup == \"/$BOX-work\""
for w in late stranger work; do
	holds "it lets go of shop/$w" quiet workload remove shop/$w
done
rmdir "$(cgroup_root)/$BOX-work"
same "... its route is gone" "" "$(in_ns late ip -6 route show table local | grep fd73)"
mv "$LOG" "$LOG.1"
install -o 65534 -m 600 /dev/null "$LOG"
kill -USR1 "$DAEMON"
wait_until grep -q "$LOG" <(ls -l "/proc/$DAEMON/fd")
curl_from frontend http://10.78.0.12/public/rotated >/dev/null
recorded "it opens a log that was given to another user" '.path == "/public/rotated"'
same "it holds what it held" "$what_each_keeps" "$(python3 "$TMP/threads.py" "$DAEMON")"
daemon_stop
holds "at its end its cgroup goes" [ ! -e "$(cgroup_root)/$BOX" ]
daemon_start || exit 1
serves "after a restart it serves"
holds "shunt detach" quiet --name "$NAME" detach --bpffs "$BPFFS"
wait "$DAEMON" 2>/dev/null
DAEMON=
same "... leaves nothing" "" "$(left_behind)"

# ---- another user ----
as_nobody() { # CAPABILITY...: the words of daemon_start for a user with these
	local caps
	caps=$(printf ',+%s' "$@")
	SHUNTD=setpriv
	set -- --reuid 65534 --regid 65534 --clear-groups --inh-caps="-all$caps" --ambient-caps="-all$caps"
	printf '#!/bin/sh\nexec setpriv %s %s "$@"\n' "$*" "$B/shuntd" >"$TMP/as-nobody"
	chmod 755 "$TMP/as-nobody"
	SHUNTD=$TMP/as-nobody
}
chown -R 65534 "$TMP/config"
for left in $NEEDED; do
	# shellcheck disable=SC2046
	as_nobody $(tr ' ' '\n' <<<"$NEEDED" | grep -vx "$left")
	timeout $((20 * FACTOR)) nsenter --net="/run/netns/$BOX-node" "$SHUNTD" --config "$TMP/config" --name "$NAME" --run-dir "$RUN" \
		--state-dir "$TMP/state" --bpffs "$BPFFS" </dev/null >"$TMP/err" 2>&1
	same "a user without cap_$left is refused" 1 $?
	holds "... and told that this one is missing" grep -qE "missing: cap_$left; " "$TMP/err"
done
# shellcheck disable=SC2086
as_nobody $NEEDED sys_ptrace dac_read_search
for how in KILL TERM; do
	daemon_start || exit 1
	serves "another user with the capabilities runs it (before SIG$how)"
	same "... not as root" 65534 "$(awk '/^Uid/ {print $2}' "/proc/$DAEMON/status")"
	same "... it keeps what it needs, not for programs" "ok control cap_dac_override, cap_net_admin, cap_sys_ptrace, cap_bpf; namespaces cap_net_admin, cap_sys_admin; log cap_dac_read_search; workers none" \
		"$(privileges)"
	same "... in its sets" 4 "$(python3 "$TMP/threads.py" "$DAEMON" | grep -vc 'for programs\|what files give')"
	holds "... reloads" quiet reload
	holds "... enrols by a process of a third one" quiet workload add shop/stranger --pid "$stranger" --label app=x
	holds "... lets go" quiet workload remove shop/stranger
	daemon_stop $how
	same "... its links stay pinned" 7 "$(in_ns frontend curl -s -m 5 http://10.78.0.12/public/a >/dev/null; echo $?)"
done
daemon_start || exit 1
serves "... it takes over its own pins"
holds "... shunt detach releases them" quiet --name "$NAME" detach --bpffs "$BPFFS"
wait "$DAEMON" 2>/dev/null
DAEMON=
same "... and leaves nothing" "" "$(left_behind)"
finish
