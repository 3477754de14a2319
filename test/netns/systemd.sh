# SPDX-License-Identifier: Apache-2.0
# What a service manager sees of the daemon, and what the unit grants it.
. "$(dirname "$0")/lib.sh"
box_up "systemd-$$"
nginx_start api 80
OPTIONS="drainTimeout: 70s"
config_write <test/netns/policy.yaml
UNIT=config/deploy/shuntd.service.in
setting() { sed -n "s/^$1=//p" "$UNIT"; }

# ---- sd_notify ----
# notified.py ADDRESS: a line for each datagram, and what curl would see at that moment.
cat >"$TMP/notified.py" <<'PY'
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind("\0" + sys.argv[1][1:] if sys.argv[1][0] == "@" else sys.argv[1])
print("bound", flush=True)
while True:
    state = s.recv(4096).decode()
    probe = socket.create_connection(("127.0.0.1", 15021), 5)
    probe.sendall(b"GET /healthz/ready HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    print(state.replace("\n", " "), probe.recv(100).split()[1].decode(), flush=True)
PY
for address in "$TMP/notify" "@$BOX"; do
	nsenter --net="/run/netns/$BOX-node" python3 "$TMP/notified.py" "$address" >"$TMP/notified" 2>&1 &
	notified=$!
	PIDS+=("$notified")
	wait_until grep -sq bound "$TMP/notified"
	NOTIFY_SOCKET=$address daemon_start || exit 1
	wait_until grep -q READY "$TMP/notified"
	same "READY=1 comes when it is ready ($address)" "READY=1 200" "$(sed -n 2p "$TMP/notified")"
	same "... then it serves" 403 "$(curl_from frontend http://10.78.0.12/private)"
	# Somebody who has still to ask keeps it from ending at once.
	start_in frontend python3 -c 'import socket, time
s = socket.create_connection(("10.78.0.12", 80)); time.sleep(60)'
	waiting=$STARTED
	wait_until sh -c "$B/shunt --run-dir $RUN status | grep -q ' 1 connections'"
	kill -TERM "$DAEMON"
	wait_until grep -q STOPPING "$TMP/notified"
	same "... STOPPING=1 as it begins to drain, with more time than drainTimeout" \
		"STOPPING=1 EXTEND_TIMEOUT_USEC=75000000 503" "$(sed -n 3p "$TMP/notified")"
	daemon_stop # the second signal
	same "... and nothing else" 3 "$(wc -l <"$TMP/notified")"
	kill "$notified" "$waiting"
	wait "$notified" "$waiting" 2>/dev/null
	rm -f "$TMP/notified" "$TMP/notify"
done

# ---- the unit ----
mkdir -p "$TMP/prefix/sbin" "$TMP/prefix/bin"
cp "$B/shuntd" "$TMP/prefix/sbin/"
cp "$B/shunt" "$TMP/prefix/bin/"
sed "s|@PREFIX@|$TMP/prefix|g" "$UNIT" >"$TMP/shuntd.service"
if command -v systemd-analyze >/dev/null; then
	same "systemd-analyze verify has nothing to say of the unit" "0 " \
		"$(systemd-analyze verify --man=no "$TMP/shuntd.service" >"$TMP/verify" 2>&1; echo $?) $(cat "$TMP/verify")"
	same "systemd-analyze security: exposed by no more than 4.0 of 10" 0 \
		"$(systemd-analyze security --offline=true --threshold=40 --no-pager "$TMP/shuntd.service" >"$TMP/security"; echo $?)"
else
	skip "systemd-analyze verify and security of the unit" "systemd is not installed"
fi
default=$(sed -n 's/.*{"drainTimeout", .*"\([0-9]*\)s",$/\1/p' config/schema.c)
holds "it waits longer than the default drainTimeout ($default s)" [ "$(setting TimeoutStopSec)" -gt "$default" ]
caps=$(setting CapabilityBoundingSet | tr 'A-Z ' 'a-z,' | sed 's/cap_/+/g')
printf '#!/bin/sh\nexec setpriv --no-new-privs --bounding-set=-all,%s %s "$@"\n' "$caps" "$SHUNTD" >"$TMP/as-unit"
chmod 755 "$TMP/as-unit"
shuntd=$SHUNTD
SHUNTD=$TMP/as-unit
daemon_start || exit 1
same "with the capabilities of the unit it starts and serves" "403 200" \
	"$(curl_from frontend http://10.78.0.12/private) $(curl_from frontend http://10.78.0.12/public/a)"
same "... its privileges are well" ok "$(shunt_ status -o json | jq -r '.subsystems[] | select(.name == "privileges") | .state')"
same "... it reloads, as the unit does" 0 "$("$TMP/prefix/bin/shunt" --run-dir "$RUN" reload >"$TMP/reload" 2>&1; echo $?)"
echo "  broken: [" >>"$TMP/config/conf.d/20-policy.yaml"
holds "... and ExecReload fails where documents are refused" bash -c "! $TMP/prefix/bin/shunt --run-dir $RUN reload >/dev/null 2>&1"
config_write <test/netns/policy.yaml

# ---- away with the package ----
install -D "$shuntd" "$TMP/root/usr/sbin/shuntd"
holds "make uninstall takes the program away" env -u MAKEFLAGS make -s B="$B" DESTDIR="$TMP/root" PREFIX=/usr uninstall
holds "... really" [ ! -e "$TMP/root/usr/sbin/shuntd" ]
same "... and a daemon that runs serves on" 403 "$(curl_from frontend http://10.78.0.12/private)"
pins=$(find "$BPFFS/shunt" | sort)
daemon_stop
same "its stop leaves every pin" "$pins" "$(find "$BPFFS/shunt" | sort)"
same "... what would be proxied is refused" 7 "$(in_ns frontend curl -s -m 5 http://10.78.0.12/public/a >/dev/null; echo $?)"
holds "nothing that is installed detaches by itself" bash -c "! grep -nE '^[^#]*detach' $UNIT"
finish
