# SPDX-License-Identifier: Apache-2.0
# Many at once: both workers serve, nothing is lost or leaked, and running out of descriptors
# passes by itself.
. "$(dirname "$0")/lib.sh"
box_up "load-$$"
nginx_start api 80
OPTIONS="workers: 2" config_write <test/netns/policy.yaml
daemon_start || exit 1

cat >"$TMP/many.py" <<'PY'
# many.py ADDRESS N ROUNDS: N connections at once, ROUNDS requests on each; how they ended
import asyncio, collections, sys
address, n, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
ends = collections.Counter()
async def one(i, gate):
    try:
        r, w = await asyncio.wait_for(asyncio.open_connection(address, 80), 30)
        gate.release()
        for k in range(rounds):
            w.write(b"GET /public/%d-%d HTTP/1.1\r\nHost: a\r\n\r\n" % (i, k))
            head = await asyncio.wait_for(r.readuntil(b"\r\n\r\n"), 30)
            size = int([l for l in head.lower().split(b"\r\n") if l.startswith(b"content-length")][0].split(b":")[1])
            body = await r.readexactly(size)
            ok = b" 200 " in head.split(b"\r\n")[0] and b"/public/%d-%d " % (i, k) in body
            ends["ok" if ok else "wrong"] += 1
        w.close()
    except Exception as e:
        ends[type(e).__name__] += 1
async def main():
    gate = asyncio.Semaphore(0)
    await asyncio.gather(*(one(i, gate) for i in range(n)))
    print(" ".join("%s=%d" % e for e in sorted(ends.items())))
asyncio.run(main())
PY
in_ns frontend python3 "$TMP/many.py" 10.78.0.12 20 1 >/dev/null # pools are filled
sleep 0.5
before=$(fds)
for a in 10.78.0.12 fd00:78::12; do
	same "400 connections at once, 5 requests on each, each its own answer ($a)" "ok=2000" \
		"$(in_ns frontend python3 "$TMP/many.py" $a 400 5)"
done
wait_record '.path == "/public/399-4"' >/dev/null
sleep 1
same "every request has its record" 4020 "$(jq -c 'select(.type == "request")' "$LOG" | wc -l)"
same "every connection has its record" 820 "$(jq -c 'select(.type == "connection")' "$LOG" | wc -l)"
same "both workers served" 2 "$(jq -r 'select(.type == "connection") | .conn_id' "$LOG" | cut -d- -f2 | sort | uniq -c | awk '$1 > 200' | wc -l)"
after=$(fds)
holds "no descriptor is left over ($before -> $after)" [ "$after" -le $((before + 16)) ]
same "no slot is left over" "0 of 65536 slots in use" "$(shunt_ status | grep -o '[0-9]* of [0-9]* slots in use')"
in_ns frontend wrk -t2 -c50 -d2 http://10.78.0.12:80/public/wrk >"$TMP/wrk"
holds "wrk has no error" bash -c "grep -q Requests/sec $TMP/wrk && ! grep -E 'Socket errors|Non-2xx' $TMP/wrk"

# Out of descriptors: some are refused, none for ever.
prlimit --pid "$DAEMON" --nofile=$(($(fds) + 60)):$(($(fds) + 60))
in_ns frontend python3 "$TMP/many.py" 10.78.0.12 300 1 >"$TMP/many"
holds "with too few descriptors some are refused ($(cat "$TMP/many"))" grep -q ok= "$TMP/many"
sleep 0.5
tries=$((20 * FACTOR)) # the last of them are still being closed
until served=$(in_ns frontend python3 "$TMP/many.py" 10.78.0.12 20 1) && [ "$served" = ok=20 ] || [ $tries -eq 0 ]; do
	tries=$((tries - 1))
	sleep 0.1
done
same "... and afterwards everybody is served" "ok=20" "$served"
finish
