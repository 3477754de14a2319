# SPDX-License-Identifier: Apache-2.0
# What people and scripts are told: status, observe, explain, validate, metrics.
. "$(dirname "$0")/lib.sh"
box_up "cli-$$"
nginx_start api 80
config_write <test/netns/policy.yaml

same "without a daemon: exit status 3" 3 "$(shunt_ status >/dev/null 2>"$TMP/err"; echo $?)"
holds "... and what to do" grep -qi "shuntd" "$TMP/err"
daemon_start || exit 1
curl_from frontend http://10.78.0.12/public/a >/dev/null
curl_from frontend -X DELETE http://10.78.0.12/public/a >/dev/null
curl_from intruder http://10.78.0.12/public/a >/dev/null
wait_record '.errno == "ECONNREFUSED"' >/dev/null

holds "status is well" shunt_ status >"$TMP/status"
same "... eight lines, all with a tick" 8 "$(grep -c '^√' "$TMP/status")"
same "status -o json is JSON and names the workloads" "api frontend intruder" \
	"$(shunt_ status -o json | jq -r '[.workloads[].name] | sort | join(" ")')"
wait_record '.status == 403' >/dev/null
same "observe shows the newest requests" 2 "$(shunt_ observe --type request -o jsonl | wc -l)"
same "observe --denied" 2 "$(shunt_ observe --denied -o jsonl | wc -l)"
same "observe -o json is one array" array "$(shunt_ observe -o json | jq -r type)"
same "observe -f refuses -o json" 2 "$(shunt_ observe -f -o json >/dev/null 2>&1; echo $?)"
holds "observe's columns say where the time went" bash -c "$B/shunt --run-dir $RUN observe | grep -q 'GET /public/a 200.*allowed.*shop/api'"
shunt_ observe -f --last 0 -o jsonl >"$TMP/followed" 2>/dev/null &
PIDS+=($!)
sleep $((FACTOR))
curl_from frontend http://10.78.0.12/public/followed >/dev/null
tries=40
until grep -q /public/followed "$TMP/followed" || [ $tries -eq 0 ]; do
	tries=$((tries - 1))
	sleep 0.05
done
holds "observe -f shows a request as it happens" grep -q /public/followed "$TMP/followed"

in_ns node curl -s http://127.0.0.1:15020/metrics >"$TMP/metrics"
in_ns node curl -s http://127.0.0.1:15020/stats/prometheus | grep -v '^process_\|timestamp' >"$TMP/metrics2"
holds "metrics are served" grep -q '^istio_requests_total{.*response_code="200"' "$TMP/metrics"
holds "... also under the other usual path" grep -q '^istio_requests_total' "$TMP/metrics2"
same "... promtool's only complaint is the unit in Istio's own name" "" \
	"$(promtool check metrics <"$TMP/metrics" 2>&1 | grep -v '^istio_request_duration_milliseconds')"
holds "... denials by reason" grep -q '^shunt_kernel_denials_total{reason="policy_l4"} 1' "$TMP/metrics"
holds "... build info" grep -q '^shunt_build_info{.*version=' "$TMP/metrics"
same "a scrape with POST is 405" 405 "$(curl_from node -X POST http://127.0.0.1:15020/metrics)"
same "the admin socket is not for everybody" 3 \
	"$(chmod 755 "$TMP" "$RUN"; chmod 666 "$RUN/admin.sock"; cp "$B/shunt" "$TMP/shunt"; setpriv --reuid 65534 --regid 65534 --clear-groups "$TMP/shunt" --run-dir "$RUN" status >/dev/null 2>&1; echo $?)"

explain() { "$B/shunt" policy explain --config "$TMP/config" --from "$1" --to "$2" "${@:3}"; }
asked() { # the node's answer and explain's, for the same request
	local method=$1 path=$2 status said
	status=$(curl_from frontend --path-as-is -X "$method" "http://10.78.0.12$path")
	explain shop/frontend shop/api:80 --method "$method" --path "$path" --host 10.78.0.12 >"$TMP/said"
	said=$?
	case $status:$said in
	403:1 | 200:0) ok "explain and node agree: $method $path is $status" ;;
	*) not_ok "explain and node agree: $method $path" "the node said $status, explain $(cat "$TMP/said")" ;;
	esac
}
asked GET /public/a
asked GET '/public/a?x=1'
asked DELETE /public/a
asked GET /publicity
asked GET /public/../private
asked GET /public/..%2fprivate
asked GET /public/%2e%2e/%2e%2e/x
asked GET '/public/..%5c..%255cadmin'
asked GET /public/%61
asked GET //public/a
asked HEAD /public/a
explain shop/frontend shop/api:80 --method DELETE --path /public/a >"$TMP/said"
same "explain: a denial is status 1" 1 $?
holds "... names the policy and the nearest miss" grep -q "nearest rule: conf.d/20-policy.yaml:[0-9]* method" "$TMP/said"
explain shop/intruder shop/api:80 >"$TMP/said"
same "explain: a connection that is refused" 1 $?
holds "... is ECONNREFUSED" grep -q ECONNREFUSED "$TMP/said"
same "explain: nobody of that name" 2 "$(explain shop/frontent shop/api:80 >"$TMP/said" 2>&1; echo $?)"
holds "... with the nearest" grep -q frontend "$TMP/said"
same "explain -o json" DENIED "$(explain shop/frontend shop/api:80 --method DELETE --path /public/a -o json | jq -r '.verdict | ascii_upcase')"

same "config validate: valid is 0" 0 "$("$B/shunt" config validate "$TMP/config" >/dev/null; echo $?)"
cat >"$TMP/config/conf.d/30-wrong.yaml" <<'DOC'
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: wrong, namespace: shop}
spec:
  endpointSelector: {}
  ingress:
  - fromEntities: [world]
    toPort: []
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: later}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: foreign}
DOC
"$B/shunt" config validate "$TMP/config" >"$TMP/said" 2>&1
same "config validate: invalid is 1" 1 $?
holds "... a field that is not enforced yet is an error" grep -q "30-wrong.yaml:7:5: error: .*fromEntities.*not enforced" "$TMP/said"
holds "... in the same run: an unknown field with its nearest name" grep -q "30-wrong.yaml:8:5: error: .*toPort.*toPorts" "$TMP/said"
holds "... a kind that is not enforced yet is an error" grep -q "30-wrong.yaml:[0-9]*:[0-9]*: error: .*NetworkPolicy.*not enforced" "$TMP/said"
holds "... a foreign kind is a warning" grep -q "30-wrong.yaml:[0-9]*:[0-9]*: warning: .*Deployment" "$TMP/said"
rm "$TMP/config/conf.d/30-wrong.yaml"
sed -i 's/^accessLog.*/onUnavailable: allow/' "$TMP/config/shunt.yaml"
same "... without them, and with onUnavailable: allow, valid is 0" 0 "$("$B/shunt" config validate "$TMP/config" >/dev/null; echo $?)"
sed -i 's/^onUnavailable.*/onUnavailable: alow/' "$TMP/config/shunt.yaml"
"$B/shunt" config validate "$TMP/config" >"$TMP/said" 2>&1
holds "... onUnavailable is deny or allow" grep -q "shunt.yaml:1:[0-9]*: error: .*'alow' is not deny or allow" "$TMP/said"
same "an unknown verb is wrong usage" 2 "$("$B/shunt" stauts >/dev/null 2>&1; echo $?)"
for verb in status observe config policy reload workload probe detach version; do
	holds "shunt $verb --help has an example" bash -c "$B/shunt $verb --help | grep -qi example"
done
holds "make install puts everything in its place" make --no-print-directory -s B="$B" DESTDIR="$TMP/root" PREFIX=/usr install
same "... programs, manuals, unit, examples" "usr/bin/shunt usr/lib/systemd/system/shuntd.service usr/sbin/shuntd usr/share/doc/shunt/examples/demo/conf.d/20-api.yaml usr/share/man/man1/shunt.1 usr/share/man/man5/shunt.yaml.5 usr/share/man/man8/shuntd.8" \
	"$(cd "$TMP/root" && find . -type f | sed 's|^./||' | grep -vE 'examples/demo/(shunt.yaml|conf.d/10)' | sort | paste -sd' ')"
holds "... and what is installed runs" "$TMP/root/usr/bin/shunt" config validate "$TMP/root/usr/share/doc/shunt/examples/demo" >/dev/null
holds "make uninstall takes it away" make --no-print-directory -s B="$B" DESTDIR="$TMP/root" PREFIX=/usr uninstall
same "... all of it" "" "$(find "$TMP/root" -type f)"
holds "the manual pages are there" bash -c "for m in shuntd.8 shunt.1 shunt.yaml.5; do man --warnings -E UTF-8 -l -Tutf8 -Z $B/man/\$m >/dev/null 2>$TMP/man || exit 1; done; [ ! -s $TMP/man ]"
finish
