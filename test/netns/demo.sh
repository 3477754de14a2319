# SPDX-License-Identifier: Apache-2.0
# make demo leaves nothing behind: after success, after a failure, after Ctrl-C.
. "$(dirname "$0")/lib.sh"
LOG=
footprint() {
	ip netns list | awk '{print $1}' | grep -v "^shunt-[a-z]*-[0-9]"
	ip -o link | awk -F': ' '{print $2}'
	ip route show table all
	ip -6 route show table all | grep fd73
	grep -c ' - bpf ' /proc/self/mountinfo
	ls -d "$(cgroup_root)"/shunt-demo* /tmp/shunt-demo* 2>/dev/null
	bpftool link list 2>/dev/null | grep -c .
	pgrep -x shuntd | wc -l
	pgrep -x nginx | wc -l
}
before=$(footprint)
left_nothing() {
	local tries=$((20 * FACTOR))
	until [ "$before" = "$(footprint)" ] || [ $tries -eq 0 ]; do
		tries=$((tries - 1))
		sleep 0.2
	done
	same "$1 leaves nothing behind" "$before" "$(footprint)"
}

out=$(NO_COLOR=1 test/demo 2>&1)
same "the demo does what it says" 0 $?
for word in '^200 after' '^403 after.*Access denied' 'connection refused' '"verdict":"allowed"' \
	'"verdict":"denied"' '^√ ' 'nearest rule: conf.d/20-api.yaml'; do
	holds "... it shows $word" grep -q -- "$word" <<<"$out"
done
left_nothing "the demo"

SHUNTD_BROKEN=$(mktemp -d)
cp "$B/shunt" "$SHUNTD_BROKEN/shunt"
printf '#!/bin/sh\nexit 1\n' >"$SHUNTD_BROKEN/shuntd"
chmod +x "$SHUNTD_BROKEN/shuntd"
B=$SHUNTD_BROKEN test/demo >/dev/null 2>&1
same "a demo that fails says so" 1 $?
rm -rf "$SHUNTD_BROKEN"
left_nothing "a demo that fails"

# Ctrl-C at several moments: the whole foreground group gets it.
for after in 0.2 0.7 1.2; do
	setsid --wait timeout -s INT "$after" test/demo >/dev/null 2>&1
	sleep 1.5
	left_nothing "a demo interrupted after $after s"
done
finish
