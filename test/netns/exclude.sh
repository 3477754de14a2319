# SPDX-License-Identifier: Apache-2.0
# What is left alone (exclude), what passes without a daemon (onUnavailable), and what a
# Namespace document says: of the mesh, a namespace and a workload, the narrowest holds.
. "$(dirname "$0")/lib.sh"
box_up "excl-$$"
box_add caged 14
box_add strict 15
box_add guest 16
for port in 80 8080 9100; do nginx_start api $port; done
nginx_start outside 80 web
nginx_start outside 9100 web
WORKLOADS="frontend intruder" # the others' documents are written here

# documents NAMESPACE API CAGED: policies and workloads; each word is more of its spec, in YAML's
# flow style. strict is who frontend is, but for what its document says of the daemon's absence.
documents() {
	cat test/netns/policy.yaml test/netns/cage.yaml
	cat <<-DOC
	---
	apiVersion: v1
	kind: Namespace
	metadata: {name: shop, labels: {team: blue${LABEL:+, $LABEL}}}
	spec: {$1}
	---
	apiVersion: shunt.dev/v1
	kind: Workload
	metadata: {name: api, namespace: shop}
	spec: {labels: {app: api}, selectors: ["netns:/run/netns/$BOX-api"]${2:+, $2}}
	---
	apiVersion: shunt.dev/v1
	kind: Workload
	metadata: {name: caged, namespace: shop}
	spec: {labels: {app: caged}, selectors: ["netns:/run/netns/$BOX-caged"]${3:+, $3}}
	---
	apiVersion: shunt.dev/v1
	kind: Workload
	metadata: {name: strict, namespace: shop}
	spec: {labels: {app: frontend}, selectors: ["netns:/run/netns/$BOX-strict"], onUnavailable: deny}
	DOC
}

# says MESH [NAMESPACE [API [CAGED]]]: in force when this returns. MESH is a line of shunt.yaml.
says() {
	OPTIONS="workers: 2
$1"
	documents "${2:-}" "${3:-}" "${4:-}" | config_write
	[ -z "$DAEMON" ] || shunt_ reload >"$TMP/reload" 2>&1 || not_ok "a reload succeeds" "$(cat "$TMP/reload")"
}

# to NAME ADDRESS PORT [PATH]: what it gets: a status, or "refused".
to() {
	local host=$2 code
	case $host in *:*) host="[$host]" ;; esac
	code=$(curl_from "$1" "http://$host:$3${4:-/private}")
	case $?:$code in 0:*) echo "$code" ;; 7:*) echo refused ;; *) echo "failed $code" ;; esac
}
API4=10.78.0.12 API6=fd00:78::12 WEB4=10.78.0.99 WEB6=fd00:78::99

# ---- exclude ----

says ""
daemon_start || exit 1
incoming() { echo "$(to intruder $API4 80) $(to intruder $API6 80) $(to intruder $API4 9100) $(to intruder $API6 9100)"; }
outgoing() { echo "$(to caged $WEB4 80) $(to caged $WEB6 80) $(to caged $WEB4 9100) $(to caged $WEB6 9100)"; }
nothing_in="refused refused refused refused" nothing_out="403 403 refused refused"
same "nothing is excluded: nothing comes in" "$nothing_in" "$(incoming)"
same "... and only what the policy says goes out" "$nothing_out" "$(outgoing)"

says "exclude: {ports: [9100]}"
same "a port the mesh excludes is open as soon as the reload returns, in both families" \
	"refused refused 200 200" "$(incoming)"
same "... outwards too" "403 403 200 200" "$(outgoing)"
says ""
same "... and closed as soon as the next one does" "$nothing_in $nothing_out" "$(incoming) $(outgoing)"
says "exclude: {cidrs: [10.78.0.13, 10.78.0.99]}"
same "an address the mesh excludes is open, for all its ports and not the other family's" \
	"200 refused 200 refused 200 403 200 refused" "$(incoming) $(outgoing)"
says 'exclude: {cidrs: ["fd00:78::/64"]}'
same "... a network of IPv6 likewise" "refused 200 refused 200 403 200 refused 200" "$(incoming) $(outgoing)"
says ""
same "... and closed again" "$nothing_in $nothing_out" "$(incoming) $(outgoing)"

says "" "exclude: {ports: [9100]}"
same "a Namespace excludes for its workloads" "refused refused 200 200 403 403 200 200" "$(incoming) $(outgoing)"
says "exclude: {ports: [9100]}" "exclude: {}"
same "... narrower than the mesh: exclude: {} excludes nothing" "$nothing_in $nothing_out" "$(incoming) $(outgoing)"
says "exclude: {ports: [80]}" "exclude: {cidrs: [10.78.0.0/24]}"
same "... as a whole: the mesh's ports do not count any more" \
	"200 refused 200 refused 200 403 200 refused" "$(incoming) $(outgoing)"
says "exclude: {ports: [80, 9100]}" "exclude: {ports: [80, 9100]}" "exclude: {}" "exclude: {}"
same "a workload's exclude: {} is narrower than both, at each end" "$nothing_in $nothing_out" "$(incoming) $(outgoing)"
says "" "" "exclude: {ports: [80], cidrs: [\"fd00:78::13\"]}"
same "what a workload excludes is open towards it" "200 200 refused 200" "$(incoming)"
same "... not for another" "$nothing_out" "$(outgoing)"
same "... whom the policy proxied is not proxied" 200 "$(to frontend $API4 80)"
same "... other ports of it are" 403 "$(to frontend $API4 8080)"
says "" "" "" "exclude: {ports: [9100], cidrs: [10.78.0.99]}"
same "... and open from it" "200 403 200 200" "$(outgoing)"
same "... not from another" "$nothing_in" "$(incoming)"
curl_from caged http://$WEB4/excluded >/dev/null
curl_from caged "http://[$WEB6]/judged" >/dev/null
recorded "what is judged is recorded" '.path == "/judged"'
same "... what is excluded is not" "" "$(jq -c 'select(.path == "/excluded")' "$LOG")"
daemon_stop TERM
same "with the daemon away it stays open" "200 refused 200 200" "$(outgoing)"
daemon_start || exit 1
same "... and with the next one" "200 403 200 200" "$(outgoing)"
says ""
same "... until it is taken back" "$nothing_in $nothing_out" "$(incoming) $(outgoing)"

entries() { bpftool -j map dump pinned "$BPFFS/shunt/${BOX#shunt-}/v2/$1" | jq length; }
same "... and the kernel holds nothing of it any more" "0 0" "$(entries exclude_ports) $(entries exclude_cidrs)"

# Reloads back and forth while one who is not excluded knocks: he never gets in.
knock='import socket, sys, threading, time
got, last = 0, None
done = threading.Event()
threading.Thread(target=lambda: (sys.stdin.readline(), done.set())).start()
tries = 0
while not done.is_set():
    tries += 1
    try:
        socket.create_connection(("10.78.0.12", 80), 10).close()
        got += 1
    except ConnectionRefusedError:
        pass
print(got, tries > 0)'
coproc KNOCK { in_ns intruder python3 -c "$knock"; }
for round in 1 2 3 4 5 6 7 8 9 10; do
	says "exclude: {ports: [9100], cidrs: [192.0.2.$round, \"fd00:78::13\"]}" "" "exclude: {ports: [$((9100 + round))]}"
	says ""
done
echo >&"${KNOCK[1]}"
read -r knocked <&"${KNOCK[0]}"
same "while exclusions come and go, whoever is not excluded never gets in" "0 True" "$knocked"

# ---- onUnavailable ----

passed() { in_ns node curl -s -m $((10 * FACTOR)) http://127.0.0.1:15020/metrics | sed -n 's/^shunt_passed_unjudged_total //p'; }
absent() { shunt_ workload list -o json | jq -r '[.[] | select(.namespace == "shop") | .name + "=" + .onUnavailable] | sort | join(" ")'; }
# away SENTENCE EXPECTED: who gets what after kill -9; a new daemon afterwards.
away() {
	daemon_stop KILL
	same "$1" "$2" "$(to caged $WEB4 80) $(to caged $WEB6 9100) $(to frontend $API4 80) $(to frontend $API6 80) $(to strict $API4 80) $(to strict $API6 80) $(to intruder $API4 80) $(to intruder $API6 80)"
	daemon_start || exit 1
}
away "deny is the default" "refused refused refused refused refused refused refused refused"
before=$(passed)
same "... nothing passed unjudged" 0 "$before"
says "onUnavailable: allow"
same "allow of the mesh holds for all but the one whose document says deny" \
	"api=allow caged=allow frontend=allow intruder=allow strict=deny" "$(absent)"
away "... side by side, and who is denied in the kernel stays so" "200 refused 200 200 refused refused refused refused"
same "... what passed was counted, once" 3 "$(($(passed) - before))"
LABEL='shunt.dev/on-unavailable: deny' says "onUnavailable: allow"
same "a namespace's label is narrower than the mesh" "api=deny caged=deny frontend=deny intruder=deny strict=deny" "$(absent)"
away "... and holds" "refused refused refused refused refused refused refused refused"
LABEL='shunt.dev/on-unavailable: allow' says ""
same "... the other way round too" "api=allow caged=allow frontend=allow intruder=allow strict=deny" "$(absent)"
away "... and holds" "200 refused 200 200 refused refused refused refused"
LABEL='shunt.dev/on-unavailable: allow' says "" "" "onUnavailable: deny"
away "a server's deny holds for its allowed clients" "200 refused refused refused refused refused refused refused"
same "with the daemon there all of it is judged" "403 403 403 403 refused refused" \
	"$(to frontend $API4 80) $(to frontend $API6 80) $(to strict $API4 80) $(to strict $API6 80) $(to intruder $API4 80) $(to intruder $API6 80)"

# From the very first connect after the death on.
says "onUnavailable: allow"
connects='import socket, sys
sys.stdin.readline()
failed = 0
for i in range(200):
    try:
        s = socket.create_connection((sys.argv[1 + i % 2], 80), 10)
        s.sendall(b"GET /private HTTP/1.0\r\n\r\n")
        failed += b" 200 " not in s.recv(100)
        s.close()
    except OSError:
        failed += 1
print(failed)'
coproc CONNECTS { in_ns frontend python3 -c "$connects" $API4 $API6; }
daemon_stop KILL
echo >&"${CONNECTS[1]}"
read -r failed <&"${CONNECTS[0]}"
same "of 200 connects right after the death none fails" 0 "$failed"
daemon_start || exit 1
same "... and the first one with the next daemon is judged" 403 "$(to frontend $API4 80)"

# ---- a namespace's labels ----

guests() { # LAB-LABELS: guest lives in namespace lab; api lets in who is of team blue
	says ""
	cat >"$TMP/config/conf.d/30-lab.yaml" <<-DOC
	apiVersion: v1
	kind: Namespace
	metadata: {name: lab, labels: {$1}}
	---
	apiVersion: shunt.dev/v1
	kind: Workload
	metadata: {name: guest, namespace: lab}
	spec: {labels: {app: guest}, selectors: ["netns:/run/netns/$BOX-guest"]}
	---
	apiVersion: cilium.io/v2
	kind: CiliumNetworkPolicy
	metadata: {name: teams, namespace: shop}
	spec:
	  endpointSelector: {matchLabels: {app: api}}
	  ingress:
	  - fromEndpoints: [{matchLabels: {io.cilium.k8s.namespace.labels.team: blue}}]
	    toPorts: [{ports: [{port: "9100", protocol: TCP}]}]
	  - fromEndpoints: [{matchLabels: {io.cilium.k8s.namespace.labels.team: blue, app: guest}}]
	    toPorts: [{ports: [{port: "8080", protocol: TCP}], rules: {http: [{path: "/team"}]}}]
	DOC
	shunt_ reload >"$TMP/reload" 2>&1 || not_ok "a reload succeeds" "$(cat "$TMP/reload")"
}
of_team() { echo "$(to intruder $API4 9100) $(to guest $API4 9100) $(to guest $API6 9100) $(to guest $API4 8080 /team) $(to guest $API4 8080 /other)"; }
guests "team: red"
same "a policy takes namespaces by their labels" "200 refused refused refused refused" "$(of_team)"
guests "team: blue"
same "... another label is another answer as soon as the reload returns" "200 200 200 200 403" "$(of_team)"
guests "team: blue, tier: test"
same "... more labels change nothing" "200 200 200 200 403" "$(of_team)"
holds "... status knows the namespace" bash -c "$B/shunt --run-dir $RUN workload list | grep -q '^lab/guest .*captured'"
guests ""
same "... without one it is nobody's" "200 refused refused refused refused" "$(of_team)"
finish
