# SPDX-License-Identifier: Apache-2.0
# kill -9 under load. deny: nothing reaches a server unjudged; allow: nobody who comes after the
# death fails; either way who was lost is counted.
. "$(dirname "$0")/lib.sh"
box_up "kill-$$"
nginx_start api 80
config() { # deny|allow
	OPTIONS="onUnavailable: $1
workers: 2" config_write <test/netns/policy.yaml
	outside_is_frontend
}

# knock.py WHO: a new connection for every request, in turn one that policy allows and one that
# it does not, until killed. A line for each: WHO-NUMBER, ns when connect() began, ns when it was
# over, and the status or the error.
cat >"$TMP/knock.py" <<'PY'
import signal, socket, sys, threading, time
stop, lines, lock = False, [], threading.Lock()
def end(*_):
    global stop
    stop = True
signal.signal(signal.SIGTERM, end)
def ask(path):
    s = socket.socket(); s.settimeout(20)
    try:
        s.connect(("10.78.0.12", 80))
        s.sendall(b"GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % path.encode())
        return s.recv(4096).split()[1].decode()
    except IndexError: return "closed"
    except OSError as e:
        time.sleep(0.001)
        return type(e).__name__
    finally: s.close()
def client(n):
    i = 0
    while not stop:
        i += 1
        name = "%s%d-%d" % (sys.argv[1], n, i)
        began = time.time_ns()
        how = ask(("/public/" if i % 2 else "/private/") + name)
        with lock: lines.append("%s %d %d %s" % (name, began, time.time_ns(), how))
threads = [threading.Thread(target=client, args=(n,)) for n in range(4)]
for t in threads: t.start()
for t in threads: t.join()
print("\n".join(lines))
PY
# judge.py FOLDER: what the clients saw, against the log of nginx, the records of the proxy and
# the times at which daemons came and went. Prints counts.
cat >"$TMP/judge.py" <<'PY'
import collections, json, sys
folder = sys.argv[1] + "/"
# told to come, here, killed, dead
lives = [tuple(map(int, l.split())) for l in open(folder + "lives")]
gaps = [(one[3], two[0], two[1]) for one, two in zip(lives, lives[1:])]
served = {l.split('"')[1].split()[1].split("/")[2] for l in open(folder + "nginx")}
recorded, count = set(), collections.Counter(cut=0)
for line in open(folder + "records"):
    try: record = json.loads(line)
    except ValueError: # the daemon was killed as it wrote it
        count["cut"] += 1
        continue
    count["dropped"] += record["drop_count"] # the log thread had no time
    if record["type"] == "request": recorded.add(record["path"].split("/")[2])
for line in open(folder + "clients"):
    name, began, over, how = line.split()
    began, over, private = int(began), int(over), int(name.split("-")[2]) % 2 == 0
    answered = how in ("200", "403")
    count["all"] += 1
    if any(here <= began and over <= killed for _, here, killed, _ in lives):
        count["alive"] += 1
        count["alive-failed"] += how != ("403" if private else "200")
        count["alive-escaped"] += private and name in served
        # Of the others the log thread may have held some when it was killed.
        count["last-unrecorded"] += began >= lives[-1][1] and name not in recorded
    elif any(dead <= began and over <= come for dead, come, _ in gaps):
        count["away"] += 1
        count["away-served"] += name in served
        count["away-failed"] += not answered
    elif any(dead <= began < here for dead, _, here in gaps):
        count["coming"] += 1
        count["coming-failed"] += not answered
    else:
        count["dying"] += 1
        count["dying-failed"] += not answered
    count["escaped"] += private and name in served
print(*("%s=%d" % c for c in sorted(count.items())))
PY
now() { date +%s%N; }
# killed_under_load deny|allow: what judge.py says is in $TMP/counts.
killed_under_load() {
	local pids=() who came here killed
	config "$1"
	daemon_start || exit 1
	: >"$LOG"
	: >"$TMP/nginx-api-80/access.log"
	: >"$TMP/lives"
	here=$(now)
	came=$here
	for who in frontend outside; do
		nsenter --net="/run/netns/$BOX-$who" python3 "$TMP/knock.py" $who- >"$TMP/knock-$who" 2>&1 &
		pids+=($!)
		PIDS+=($!)
	done
	for _ in 1 2 3 4 5; do
		sleep 0.5
		killed=$(now)
		daemon_stop KILL
		echo "$came $here $killed $(now)" >>"$TMP/lives"
		sleep 0.3
		came=$(now)
		daemon_start || exit 1
		here=$(now)
	done
	sleep 0.5
	kill "${pids[@]}"
	wait "${pids[@]}"
	echo "$came $here $(now) $(now)" >>"$TMP/lives"
	daemon_stop # and all of its records are written
	cat "$TMP"/knock-* >"$TMP/clients"
	cp "$TMP/nginx-api-80/access.log" "$TMP/nginx"
	cp "$LOG" "$TMP/records"
	python3 "$TMP/judge.py" "$TMP" >"$TMP/counts"
	echo "# $1: $(cat "$TMP/counts")"
}
count() { grep -oE "(^| )$1=[0-9]+" "$TMP/counts" | cut -d= -f2; }

killed_under_load deny
holds "eight clients from both sides ask all the while" [ "$(count all)" -gt 500 ]
same "deny: over five deaths nothing that policy forbids reaches the server" 0 "$(count escaped)"
same "... and nothing at all while no daemon is there" "0 $(count away)" "$(count away-served) $(count away-failed)"
same "... while one lives, everybody gets the answer he should" 0 "$(count alive-failed)"
holds "... and has his record, of the one that was not killed, or the records say how many there are not" \
	[ "$(count last-unrecorded)" -le "$(count dropped)" ]
killed_under_load allow
same "allow: no connect() after a death fails while no daemon is there" 0 "$(count away-failed)"
holds "... they are served" [ "$(count away-served)" -gt 50 ]
same "... nor one while the next daemon comes" 0 "$(count coming-failed)"
same "... while one lives, everybody gets the answer he should" "0 0" "$(count alive-failed) $(count alive-escaped)"

# Half a line that a killed daemon left is nobody else's.
printf '{"half of a' >>"$LOG"
daemon_start || exit 1
curl_from frontend http://10.78.0.12/public/whole >/dev/null
recorded "the record after half a line is whole" '.path == "/public/whole"'

# ---- who was lost ----
lost() { # STATE
	in_ns node curl -s http://127.0.0.1:15020/metrics | grep "^shunt_restart_lost_connections{state=\"$1\"}" | cut -d' ' -f2
}
# holder.py N ASK: N connections, each with one answered request or none; holds them.
cat >"$TMP/holder.py" <<'PY'
import socket, sys, time
all = [socket.create_connection(("10.78.0.12", 80), 20) for _ in range(int(sys.argv[1]))]
for s in all if len(sys.argv) > 2 else []:
    s.sendall(b"GET /public/held HTTP/1.1\r\nHost: a\r\n\r\n"); s.recv(4096)
print("held", flush=True)
time.sleep(600)
PY
hold_from() { # NAMESPACE N [ask]
	local name=$1
	shift
	nsenter --net="/run/netns/$BOX-$name" python3 "$TMP/holder.py" "$@" >"$TMP/holder" 2>&1 &
	PIDS+=($!)
	wait_until grep -sq held "$TMP/holder"
	rm "$TMP/holder"
}
daemon_stop
config deny
daemon_start || exit 1
hold_from frontend 5 ask
hold_from outside 4 ask
kill -STOP "$DAEMON"
hold_from frontend 3
daemon_stop KILL
daemon_start || exit 1
same "the next daemon says how many connections were lost: 5 captured and 4 arrived were open, 3 waited" "9 3" \
	"$(lost open) $(lost waiting)"
holds "... and its log does" grep -q 'of the daemon before us 9 connections were open and 3 waited' "$TMP/shuntd.log"
daemon_stop
daemon_start || exit 1
same "after a stop that was asked for none is lost" "0 0" "$(lost open) $(lost waiting)"
finish
