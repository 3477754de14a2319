# SPDX-License-Identifier: Apache-2.0
# Start, reload, crash, restart, detach; workloads that come later.
. "$(dirname "$0")/lib.sh"
box_up "life-$$"
OPTIONS="workers: 2"
nginx_start api 80
nginx_start api 7000
config_write <test/netns/policy.yaml

# Documents that are not valid: nothing starts, the error has its place.
sed 's/fromEndpoints/fromEndpoint/' test/netns/policy.yaml >"$TMP/config/conf.d/20-policy.yaml"
holds "invalid documents do not start a daemon" bash -c "! nsenter --net=/run/netns/$BOX-node $SHUNTD --config $TMP/config --name ${BOX#shunt-} --run-dir $RUN --state-dir $TMP/state --bpffs $BPFFS 2>$TMP/err"
holds "... and the error names file, line, column and the nearest name" \
	grep -q "conf.d/20-policy.yaml:9:5: .*fromEndpoint.*fromEndpoints" "$TMP/err"
same "... and traffic flows as before" 200 "$(curl_from intruder http://10.78.0.12/private)"
config_write <test/netns/policy.yaml

daemon_start || exit 1
same "nginx that was there before is protected" 403 "$(curl_from frontend http://10.78.0.12/private)"
nginx_start api 8080 late
same "nginx that came after it too" 200 "$(curl_from frontend http://10.78.0.12:8080/public/a)"
same "... and refused" 403 "$(curl_from frontend http://10.78.0.12:8080/private)"

# A kept connection meets the new policy with its next request.
keep='import http.client, sys
c = http.client.HTTPConnection("10.78.0.12", 80)
def ask(p):
    c.request("GET", p); r = c.getresponse(); r.read(); return r.status
print(ask("/public/a"), ask("/private"), flush=True)
sys.stdin.readline()
print(ask("/public/a"), ask("/private"), flush=True)
sys.stdin.readline()
print(ask("/public/a"), ask("/private"), flush=True)'
coproc KEPT { in_ns frontend python3 -c "$keep"; }
read -r first <&"${KEPT[0]}"
same "a kept connection under the old policy" "200 403" "$first"
sed 's|/public/|/private|' test/netns/policy.yaml >"$TMP/config/conf.d/20-policy.yaml"
holds "shunt reload applies new documents" shunt_ reload
echo >&"${KEPT[1]}"
read -r second <&"${KEPT[0]}"
same "... meets the new one with its next request" "403 200" "$second"
echo "  broken: [" >>"$TMP/config/conf.d/20-policy.yaml"
shunt_ reload >"$TMP/reload" 2>&1
same "a reload of invalid documents answers no" 1 $?
holds "... says where" grep -q "conf.d/20-policy.yaml:[0-9]*:[0-9]*" "$TMP/reload"
holds "... and status says that it was refused" bash -c "! $B/shunt --run-dir $RUN status >/dev/null"
echo >&"${KEPT[1]}"
read -r third <&"${KEPT[0]}"
same "... while the old policy stays in force" "403 200" "$third"
config_write <test/netns/policy.yaml
kill -HUP "$DAEMON"
tries=$((40 * FACTOR))
until [ "$(curl_from frontend http://10.78.0.12/public/a)" = 200 ] || [ $tries -eq 0 ]; do
	tries=$((tries - 1))
	sleep 0.1
done
same "SIGHUP reads the documents again" 200 "$(curl_from frontend http://10.78.0.12/public/a)"

# Two daemons of one name.
nsenter --net="/run/netns/$BOX-node" "$SHUNTD" --config "$TMP/config" --name "${BOX#shunt-}" --run-dir "$RUN" --state-dir "$TMP/state" --bpffs "$BPFFS" 2>"$TMP/err"
same "a second daemon of the same name is refused" 1 $?
holds "... with the remedy" grep -q -- "--name" "$TMP/err"

# The cgroup of the daemon holds nobody else.
same "the daemon is alone in its cgroup" "$DAEMON" "$(cat "$(cgroup_root)/$BOX/cgroup.procs")"

# kill -9: what would be proxied is refused at once, what is direct goes on.
for how in KILL TERM; do
	daemon_stop $how
	start=$(date +%s%N)
	in_ns frontend curl -s -m 5 http://10.78.0.12/public/a >/dev/null
	same "after SIG$how a proxied connect is refused" 7 $?
	holds "... at once" [ $((($(date +%s%N) - start) / 1000000)) -lt $((1000 * FACTOR)) ]
	in_ns frontend curl -s -m 5 'http://[fd00:78::12]/public/a' >/dev/null
	same "... and over IPv6" 7 $?
	same "... a direct one goes on" 200 "$(curl_from frontend http://10.78.0.12:7000/x)"
	in_ns intruder curl -s -m 5 http://10.78.0.12/public/a >/dev/null
	same "... a denied one stays denied" 7 $?
	same "shunt says that the daemon is away" 3 "$(shunt_ status >/dev/null 2>&1; echo $?)"
	daemon_start || exit 1
	same "after a restart it works again" 200 "$(curl_from frontend http://10.78.0.12/public/a)"
	same "... and refuses again" 403 "$(curl_from frontend http://10.78.0.12/private)"
	same "... over IPv6 too" 200 "$(curl_from frontend 'http://[fd00:78::12]/public/a')"
done
recorded "a refusal in the daemon's absence is recorded when it is back" \
	'.reason == "daemon_away" and .errno == "ECONNREFUSED" and .comm == "curl" and ."src.workload" == "frontend"'
holds "... and counted" bash -c "nsenter --net=/run/netns/$BOX-node curl -s http://127.0.0.1:15020/metrics | grep -q '^shunt_kernel_denials_total{reason=\"daemon_away\"} [1-9]'"

# Other labels: a kept connection is judged by those of today.
coproc RELABELLED { in_ns frontend python3 -c "$keep"; }
read -r first <&"${RELABELLED[0]}"
sed -i 's/app: frontend/app: stranger/' "$TMP/config/conf.d/10-workloads.yaml"
shunt_ reload >/dev/null
echo >&"${RELABELLED[1]}"
read -r second <&"${RELABELLED[0]}"
echo >&"${RELABELLED[1]}"
same "a kept connection of a workload with other labels is refused" "200 403 403 403" "$first $second"
in_ns frontend curl -s -m 5 http://10.78.0.12/public/a >/dev/null
same "... and its new ones in the kernel" 7 $?
sed -i 's/app: stranger/app: frontend/' "$TMP/config/conf.d/10-workloads.yaml"
shunt_ reload >/dev/null
same "... until it has its labels again" 200 "$(curl_from frontend http://10.78.0.12/public/a)"
kill "$RELABELLED_PID" 2>/dev/null

# The other end with other labels: its own policy of today, not none at all.
cat >>"$TMP/config/conf.d/20-policy.yaml" <<'DOC'
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: other, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: other}}
  ingress:
  - toPorts: [{ports: [{port: "80", protocol: TCP}], rules: {http: [{path: "/private"}]}}]
DOC
shunt_ reload >/dev/null
coproc TARGET { in_ns frontend python3 -c "$keep" 2>/dev/null; }
read -r first <&"${TARGET[0]}"
sed -i 's/app: api/app: other/' "$TMP/config/conf.d/10-workloads.yaml"
shunt_ reload >/dev/null
echo >&"${TARGET[1]}"
read -r second <&"${TARGET[0]}"
echo >&"${TARGET[1]}"
same "a kept connection to a workload with other labels meets its new policy" "200 403 403 200" "$first $second"
sed -i 's/app: other/app: api/' "$TMP/config/conf.d/10-workloads.yaml"
config_write <test/netns/policy.yaml
shunt_ reload >/dev/null

same "the workers hold no capability" 2 "$(grep -h ^CapEff "/proc/$DAEMON/task/"*/status | grep -c '0000000000000000$')"

# What left the documents while the daemon was away is let go of.
daemon_stop KILL
cp "$TMP/config/conf.d/10-workloads.yaml" "$TMP/workloads"
awk 'BEGIN {RS = "---\n"; ORS = "---\n"} !/name: intruder/ && NF' "$TMP/workloads" >"$TMP/config/conf.d/10-workloads.yaml"
mkdir -p "$(cgroup_root)/$BOX"
sleep 60 &
PIDS+=($!)
echo $! >"$(cgroup_root)/$BOX/cgroup.procs"
nsenter --net="/run/netns/$BOX-node" "$SHUNTD" --config "$TMP/config" --name "${BOX#shunt-}" --run-dir "$RUN" --state-dir "$TMP/state" --bpffs "$BPFFS" 2>"$TMP/err"
same "a daemon's cgroup that holds another process is refused" 1 $?
holds "... and says so" grep -q "holds another process" "$TMP/err"
kill "${PIDS[-1]}"
wait "${PIDS[-1]}" 2>/dev/null
daemon_start || exit 1
same "a workload that left while the daemon was away is let go of" 2 \
	"$(bpftool -j map dump pinned "$BPFFS/shunt/${BOX#shunt-}/v2/places" | jq length)"
cp "$TMP/workloads" "$TMP/config/conf.d/10-workloads.yaml"
shunt_ reload >/dev/null

# A namespace that comes later, goes, and comes again.
cat >>"$TMP/config/conf.d/10-workloads.yaml" <<DOC
apiVersion: shunt.dev/v1
kind: Workload
metadata: {name: late, namespace: shop}
spec: {labels: {app: frontend}, selectors: ["netns:/run/netns/$BOX-late"]}
DOC
shunt_ reload >/dev/null
holds "a workload whose namespace is not there is shown" bash -c "$B/shunt --run-dir $RUN status -v | grep -q late"
for round in first second; do
	box_add late 44
	tries=40
	until [ "$(curl_from late http://10.78.0.12/private)" = 403 ] || [ $tries -eq 0 ]; do
		tries=$((tries - 1))
		sleep 0.1
	done
	same "... it is enrolled when it appears ($round time)" 403 "$(curl_from late http://10.78.0.12/private)"
	same "... with its identity" 200 "$(curl_from late http://10.78.0.12/public/a)"
	ip netns del "$BOX-late"
	sleep 0.7
	tries=20
	while in_ns node ip link show v44 >/dev/null 2>&1 && [ $tries -gt 0 ]; do
		tries=$((tries - 1))
		sleep 0.1
	done
	holds "... and let go of when it is deleted (its veth goes)" bash -c "! nsenter --net=/run/netns/$BOX-node ip link show v44 >/dev/null 2>&1"
done

# A namespace without IPv6: IPv4 only, and said so.
ip netns add "$BOX-late"
in_ns late sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
in_ns node ip link add v44 type veth peer name eth0 netns "$BOX-late"
in_ns node ip link set v44 master br0 up
in_ns late ip link set lo up
in_ns late ip addr add 10.78.0.44/24 dev eth0
in_ns late ip link set eth0 up
tries=40
until [ "$(curl_from late http://10.78.0.12/private)" = 403 ] || [ $tries -eq 0 ]; do
	tries=$((tries - 1))
	sleep 0.1
done
same "a namespace without IPv6 is captured for IPv4" "403 200" \
	"$(curl_from late http://10.78.0.12/private) $(curl_from late http://10.78.0.12/public/a)"
same "... and status says so" IPv4 "$(shunt_ status -o json | jq -r '.workloads[] | select(.name == "late") | .families')"

# The log file is opened again.
mv "$LOG" "$LOG.1"
kill -USR1 "$DAEMON"
sleep 0.3
curl_from frontend http://10.78.0.12/public/rotated >/dev/null
recorded "SIGUSR1 opens the log again" '.path == "/public/rotated"'

# detach: everything is released, nothing else does it.
holds "shunt detach succeeds" shunt_ --name "${BOX#shunt-}" detach --bpffs "$BPFFS"
wait "$DAEMON" 2>/dev/null
DAEMON=
same "after detach traffic is direct" 200 "$(curl_from intruder http://10.78.0.12/private)"
same "... no pin is left" "" "$(find "$BPFFS/shunt" -mindepth 1 2>/dev/null)"
same "... no route is left" "" "$(in_ns frontend ip -6 route show table local | grep fd73)"
holds "... no cgroup is left" [ ! -e "$(cgroup_root)/$BOX" ]
same "... nothing listens for us" "" "$(in_ns frontend ss -Hltn)"
# The same after a daemon that was killed: the command does it alone.
daemon_start || exit 1
daemon_stop KILL
holds "shunt detach cleans up after a daemon that was killed" shunt_ --name "${BOX#shunt-}" detach --bpffs "$BPFFS"
same "... traffic is direct" 200 "$(curl_from intruder http://10.78.0.12/private)"
same "... no pin is left" "" "$(find "$BPFFS/shunt" -mindepth 0 2>/dev/null)"
same "... no route is left" "" "$(in_ns frontend ip -6 route show table local | grep fd73)"
holds "... no cgroup is left" [ ! -e "$(cgroup_root)/$BOX" ]
same "detach again is harmless" 0 "$(shunt_ --name "${BOX#shunt-}" detach --bpffs "$BPFFS" >/dev/null 2>&1; echo $?)"
finish
