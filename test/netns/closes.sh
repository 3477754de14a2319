# SPDX-License-Identifier: Apache-2.0
# How a connection of any bytes ends: every order in which two ends close, half-close, reset and
# die is played direct and proxied, and both ends must see the same, errnos and bytes. What direct
# is, is not written down here: the direct run says it. test/peer/closes.c has the steps.
. "$(dirname "$0")/lib.sh"
CLOSES=$B/test/peer/closes
export FACTOR
[ -x "$CLOSES" ] || {
	echo "# $CLOSES is missing: run make B=$B $CLOSES"
	exit 1
}
box_up "closes-$$"
config_write <test/netns/bytes.yaml
# The kernel gives up the bytes of a socket that was closed when its reader pauses for minutes; one
# that is only shut keeps them. Here minutes are made seconds.
minutes=1
for name in $WORKLOADS outside; do
	in_ns "$name" sysctl -qw net.ipv4.tcp_rto_max_ms=1000 2>/dev/null || minutes=
done
daemon_start || exit 1
force_proxy 7002 7004

# order SENTENCE SCRIPT: X is who acts first, Y the other; played with the client as X, then
# with the server.
SENTENCES=()
order() {
	local x
	for x in "client c server s" "server s client c"; do
		# shellcheck disable=SC2086
		set -- "$1" "$2" $x
		SENTENCES+=("$(sed "s/X/the $3/g; s/Y/the $5/g" <<<"$1")")
		sed "s/X/$4/g; s/Y/$6/g" <<<"$2" >>"$TMP/scripts"
	done
}
# once SENTENCE SCRIPT: the same, where only one end can do it.
once() {
	SENTENCES+=("$1")
	echo "$2" >>"$TMP/scripts"
}

# ---- X ends it ----

order "X closes" "open X.close Y.fin Y.report"
order "X closes, Y has bytes unread" "open X.send:10 Y.arrive:10 X.close Y.fin Y.report"
order "X closes right after it wrote" "open X.send:10 X.close Y.fin Y.report"
order "X closes, and Y writes to it" "open X.close Y.fin Y.send:1 Y.err Y.report"
order "X closes, and Y, with bytes unread, writes to it" \
	"open X.send:10 Y.arrive:10 X.close Y.fin Y.send:1 Y.err Y.report"
order "X closes with bytes unread, which resets" "open Y.send:10 X.arrive:10 X.close Y.err Y.report"
order "X closes with bytes unread, Y has some too" \
	"open X.send:10 Y.send:10 X.arrive:10 Y.arrive:10 X.close Y.err Y.report"
order "X closes with a part of the bytes unread" \
	"open Y.send:10 X.take:4 X.close Y.err Y.report"
order "X resets" "open X.reset Y.err Y.report"
order "X resets, Y has bytes unread" "open X.send:10 Y.arrive:10 X.reset Y.err Y.report"
order "X resets right after it wrote" "open X.send:10 X.reset Y.err Y.report"
order "X resets with bytes unread, Y has some too" \
	"open X.send:10 Y.send:10 X.arrive:10 Y.arrive:10 X.reset Y.err Y.report"
order "X is killed" "open X.kill Y.fin Y.report"
order "X is killed, Y has bytes unread" "open X.send:10 Y.arrive:10 X.kill Y.fin Y.report"
order "X is killed with bytes unread" "open Y.send:10 X.arrive:10 X.kill Y.err Y.report"
order "X is killed with bytes unread, Y has some too" \
	"open X.send:10 Y.send:10 X.arrive:10 Y.arrive:10 X.kill Y.err Y.report"
order "X exits" "open X.exit Y.fin Y.report"
order "X exits with bytes unread" "open Y.send:10 X.arrive:10 X.exit Y.err Y.report"

order "X sends an urgent byte, which is not in the stream, and closes" \
	"open X.send:10 X.urgent X.send:10 X.close Y.drain"

# ---- X closes its half, then Y acts ----

order "X half-closes, Y goes on and closes" \
	"open X.send:5 X.shut Y.fin Y.report Y.send:10 X.arrive:10 X.report Y.close X.fin X.report"
order "X half-closes, Y too" "open X.shut Y.fin Y.shut X.fin X.report Y.report X.close Y.report"
order "X half-closes, Y too, both have bytes unread" \
	"open X.send:10 Y.send:20 X.shut Y.fin Y.shut X.fin X.arrive:20 Y.arrive:10 X.report Y.report"
order "X half-closes, Y closes" "open X.shut Y.fin Y.close X.fin X.report"
order "X half-closes, Y closes with its bytes unread, which resets" \
	"open X.send:10 X.shut Y.fin Y.close X.err X.report"
order "X half-closes, Y writes and closes with bytes unread" \
	"open X.send:10 X.shut Y.fin Y.send:20 X.arrive:20 Y.close X.err X.report"
order "X half-closes, Y resets" "open X.shut Y.fin Y.reset X.err X.report"
order "X half-closes, Y resets, X has bytes unread" \
	"open X.shut Y.fin Y.send:10 X.arrive:10 Y.reset X.err X.report"
order "X half-closes, Y is killed" "open X.shut Y.fin Y.kill X.fin X.report"
order "X half-closes, Y is killed with bytes unread" "open X.send:10 X.shut Y.fin Y.kill X.err X.report"
order "X half-closes, Y exits with its own bytes on the way" \
	"open X.shut Y.fin Y.send:10 Y.exit X.fin X.report"

# ---- X closes its half, then acts again ----

order "X half-closes, then closes" "open X.shut Y.fin X.close Y.report"
order "X half-closes, then closes, and Y writes to it" "open X.shut Y.fin X.close Y.send:1 Y.err Y.report"
order "X half-closes, then resets" "open X.shut Y.fin X.reset Y.err Y.report"
order "X half-closes, then resets, Y has bytes unread" \
	"open X.send:10 X.shut Y.fin Y.arrive:10 X.reset Y.err Y.report"
order "X writes, half-closes and resets at once" "open X.send:10 X.shut X.reset Y.err Y.report"
order "X half-closes, then closes with bytes unread" \
	"open X.shut Y.fin Y.send:10 X.arrive:10 X.close Y.err Y.report"
order "X half-closes, then is killed with bytes unread" \
	"open X.shut Y.fin Y.send:10 X.arrive:10 X.kill Y.err Y.report"
order "X half-closes, Y too, then X resets: that is over already" \
	"open X.shut Y.fin Y.shut X.fin X.reset Y.report"

# ---- more bytes than anybody takes ----

order "X writes until it is full and half-closes, Y reads all of it" \
	"open X.fill X.shut Y.drain Y.send:10 X.take:10 Y.close X.fin X.report"
order "X writes until it is full and closes, Y reads all of it" "open X.fill X.close Y.drain Y.report"
order "X writes until it is full and is killed, Y reads all of it" "open X.fill X.kill Y.drain"
order "both write until they are full and half-close, both read all of it" \
	"open X.fill Y.fill X.shut Y.shut X.drain Y.drain"
# Bytes in flight may be lost by a reset, and more of them are in flight through a proxy.
order "X writes until it is full and resets, Y gets a prefix of it and the reset" \
	"open X.fill X.reset Y.err Y.prefix"
order "X writes until it is full, Y resets" "open X.fill Y.reset X.err X.report"
order "X writes until it is full, Y closes with that unread" "open X.fill Y.close X.err X.report"
order "X writes until it is full, Y is killed" "open X.fill Y.kill X.err X.report"
order "X half-closes, Y writes until it is full, X resets" "open X.shut Y.fin Y.fill X.reset Y.err Y.report"
order "X half-closes, Y writes until it is full and half-closes, X reads all of it" \
	"open X.send:3 X.shut Y.fin Y.fill Y.shut X.drain Y.take:3 Y.report"

if [ -n "$minutes" ]; then
	# More than a reader's kernel takes of it, less than both kernels and the daemon.
	order "X writes and half-closes, Y too, and reads after minutes" \
		"open X.send:150000 X.shut Y.shut Y.rest:6 Y.drain X.fin X.report"
else
	skip "a reader that pauses for minutes when both ends are shut" "this kernel has no net.ipv4.tcp_rto_max_ms"
fi

# ---- before it is accepted ----

once "the client closes before it is accepted" "c.connect c.close s.accept s.fin s.report"
once "the client writes and closes before it is accepted" "c.connect c.send:10 c.close s.accept s.fin s.report"
once "the client writes and resets before it is accepted" "c.connect c.send:10 c.reset s.accept s.err s.report"
once "the client resets before it is accepted" "c.connect c.reset s.accept s.err s.report"
once "the client half-closes before it is accepted" \
	"c.connect c.send:10 c.shut s.accept s.take:10 s.fin s.send:5 s.close c.fin c.report"

# ---- played ----

# play CLIENT SERVER ADDRESS PORT NAME: in the background; the program itself is the job, so that
# it ends with us.
play() {
	exec "$CLOSES" "/run/netns/$BOX-$1" "/run/netns/$BOX-$2" "$3" "$4" \
		<"$TMP/scripts" >"$TMP/$5" 2>"$TMP/$5.complaints"
}
# CLIENT:SERVER:ADDRESS:PORT, and the port above it. Between two workloads of this node both legs
# are in it; else one of them is.
PAIRS="frontend:api:12:7001 outside:api:12:7003 frontend:outside:99:7001"
reports=$(grep -c report "$TMP/scripts") # these are played three times
connections=$((${#SENTENCES[@]} + 2 * reports))
# Not what the kernel steered: a segment that comes behind the end of its connection is steered too.
through_proxy() { metric 'shunt_ends_total{type="connection"'; }
all_ended() { [ "$(metric shunt_connections)" -eq 0 ]; }
before=$(through_proxy)
players=()
for pair in $PAIRS; do
	IFS=: read -r client server number port <<<"$pair"
	for address in "10.78.0.$number" "fd00:78::$number"; do
		play "$client" "$server" "$address" "$port" "direct-$client-$server-$address" &
		players+=($!)
		play "$client" "$server" "$address" $((port + 1)) "proxied-$client-$server-$address" &
		players+=($!)
	done
done
wait "${players[@]}"
holds "no connection is left in the daemon" wait_until all_ended
same "those of one port go through the proxy, those of the other do not" \
	$((before + 6 * connections)) "$(through_proxy)"
for pair in $PAIRS; do
	IFS=: read -r client server number _ <<<"$pair"
	for address in "10.78.0.$number" "fd00:78::$number"; do
		who=$client-$server-$address
		for way in direct proxied; do
			same "all was played ($who, $way)" "${#SENTENCES[@]} lines, " \
				"$(grep -c . "$TMP/$way-$who") lines, $(cat "$TMP/$way-$who.complaints")"
		done
		for i in "${!SENTENCES[@]}"; do
			direct=$(sed -n "$((i + 1))p" "$TMP/direct-$who")
			case $direct in
			*hangs*) not_ok "${SENTENCES[i]} ($who)" "direct: $direct" ;;
			*) same "${SENTENCES[i]} ($who)" "$direct" "$(sed -n "$((i + 1))p" "$TMP/proxied-$who")" ;;
			esac
		done
	done
done
finish
