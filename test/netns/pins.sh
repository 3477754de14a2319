# SPDX-License-Identifier: Apache-2.0
# What a daemon finds pinned: another layout, another size, too little, too much. What it cannot
# take over whole it refuses, and what is pinned goes on judging as before.
. "$(dirname "$0")/lib.sh"
box_up "pins-$$"
nginx_start api 80
nginx_start api 7000
NAME=${BOX#shunt-}
PINS=$BPFFS/shunt/$NAME
config() { # deny|allow [SLOTS]
	OPTIONS="onUnavailable: $1
slots: ${2:-65536}" config_write <test/netns/policy.yaml
}
# refused SENTENCE WORD...: a daemon that does not start, exits 1, and says these words.
refused() {
	local sentence=$1 status word
	shift
	timeout $((20 * FACTOR)) nsenter --net="/run/netns/$BOX-node" "$SHUNTD" --config "$TMP/config" --name "$NAME" \
		--run-dir "$RUN" --state-dir "$TMP/state" --bpffs "$BPFFS" </dev/null >"$TMP/err" 2>&1
	status=$?
	same "$sentence" 1 "$status"
	for word in "$@"; do
		holds "... its message says $word" grep -qF -- "$word" "$TMP/err"
	done
}
# from NAMESPACE URL: the status, and curl's own, which is 7 where connect() was refused.
from() { in_ns "$1" curl -s -m 5 -o /dev/null -w '%{http_code}/%{exitcode}' "$2"; }
# judged WORD RESULT: what is pinned judges on: denied, proxied as onUnavailable says, direct.
judged() {
	same "... what is denied stays denied, what would be proxied $1, what is direct goes on" \
		"000/7 000/7 $2 200/0" "$(from intruder http://10.78.0.12/public/a) $(from outside http://10.78.0.12/public/a) $(from frontend http://10.78.0.12/private) $(from frontend http://10.78.0.12:7000/x)"
}
serves() { # SENTENCE
	same "$1" "403 200 000/7" "$(curl_from frontend http://10.78.0.12/private) $(curl_from frontend http://10.78.0.12/public/a) $(from intruder http://10.78.0.12/public/a)"
}
programs() { for pin in "$PINS"/*/link_* "$PINS"/*/inbound_*; do bpftool -j link show pinned "$pin" | jq .prog_id; done | paste -sd' '; }
detach() { shunt_ --name "$NAME" detach --bpffs "$BPFFS" >/dev/null; }

# ---- another layout ----
for away in deny allow; do
	config $away
	daemon_start || exit 1
	serves "a daemon serves ($away)"
	daemon_stop KILL
	mv "$PINS/v2" "$PINS/v1"
	before=$(programs)
	expected="000/7" word="is refused"
	[ $away = allow ] && expected="200/0" word="passes"
	judged "$word" "$expected"
	refused "pins of another layout: start is refused ($away)" "$PINS/v1" "shunt detach"
	judged "$word" "$expected"
	same "... by the same programs" "$before" "$(programs)"
	holds "... shunt detach removes them" detach
	same "... and all of them" "" "$(find "$BPFFS/shunt" -mindepth 1 2>/dev/null)"
	same "... traffic is direct" "200/0" "$(from intruder http://10.78.0.12/private)"
done
config deny
daemon_start || exit 1
serves "then it starts"

# ---- another size ----
daemon_stop KILL
before=$(programs)
config deny 131072
refused "another number of slots than the pinned ones: start is refused" "$PINS/v2/slots" "\`slots\`" "shunt detach"
judged "is refused" "000/7"
same "... by the same programs" "$before" "$(programs)"
config deny
daemon_start || exit 1
serves "with the number of before it starts"

# ---- too little ----
rm "$PINS/v2/link_connect4"
holds "a link that somebody removed: status fails" bash -c "! $B/shunt --run-dir $RUN status >$TMP/status"
holds "... and says what to do" grep -q 'restart shuntd' "$TMP/status"
for how in TERM KILL; do
	rm -f "$PINS/v2/link_connect4" "$PINS"/v2/inbound_*
	daemon_stop $how
	daemon_start || exit 1
	serves "the next daemon attaches what is missing (SIG$how)"
	same "... and status is well" 0 "$(shunt_ status >/dev/null; echo $?)"
done
for map in policy places workloads globals; do
	daemon_stop KILL
	mkdir "$BPFFS/aside"
	bpftool map pin pinned "$PINS/v2/$map" "$BPFFS/aside/$map"
	rm "$PINS/v2/$map"
	before=$(programs)
	refused "a map that is gone ($map): start is refused" "$PINS/v2/$map" "shunt detach"
	judged "is refused" "000/7"
	same "... by the same programs" "$before" "$(programs)"
	mv "$BPFFS/aside/$map" "$PINS/v2/$map"
	rmdir "$BPFFS/aside"
	daemon_start || exit 1
	serves "... with it it starts"
done

# ---- too much ----
daemon_stop KILL
mkdir "$PINS/v2/folder"
bpftool map create "$PINS/v2/stranger" type hash key 4 value 4 entries 4 name stranger
bpftool map create "$PINS/v2/inbound_stranger" type hash key 4 value 4 entries 4 name stranger
for door in "$PINS"/v2/inbound_0*; do
	rm "$door"
	bpftool map create "$door" type hash key 4 value 4 entries 4 name stranger
done
daemon_start || exit 1
serves "strangers among the pins, also in the place of a link: it starts, and judges"
same "... also what arrives" "000/7" "$(from outside http://10.78.0.12/public/a)"
daemon_stop KILL
rm "$PINS/v2/link_connect4"
bpftool map create "$PINS/v2/link_connect4" type hash key 4 value 4 entries 4 name stranger
refused "a stranger in the place of a link of the whole node: start is refused" "$PINS/v2/link_connect4" "shunt detach"
holds "... shunt detach removes everything" detach
same "... really" "" "$(find "$BPFFS/shunt" -mindepth 1 2>/dev/null)"
daemon_start || exit 1
serves "then it starts"
finish
