#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Plays test/http1/messages.txt through the daemon: a raw client in one namespace, a server that
records what it receives in another. usage: smuggling.py CLIENT_NS SERVER_NS ADDRESS PORT LOG

The recorded bytes are judged: they are what the table says, readers that are not ours (h11, and
an nginx on port 80 of the server's namespace, which are shown the same bytes) find the requests in
them that the access log has, and the connection goes on, or does not, as the table says. Each
message goes whole and in two pieces. Prints ok and not ok lines."""
import ctypes
import json
import os
import re
import select
import socket
import struct
import sys
import time

import h11

CANNED = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
PROBE = b"GET /still-open HTTP/1.1\r\nHost: a\r\n\r\n"
UP, DOWN = b"\0any bytes up\n\0", b"\0any bytes down\r\n\r\n"
PATIENCE = 10 * float(os.environ.get("FACTOR", 1))  # seconds; nothing waits that long if all is well


def unescape(text, at=0, until=None):
    out = b""
    plain = {"r": b"\r", "n": b"\n", "t": b"\t", "0": b"\0", "s": b" "}
    while at < len(text) and text[at] != until:
        c = text[at]
        if c == "^":
            out += b"\r\n"
        elif c != "\\":
            out += c.encode("latin-1")
        else:
            at += 1
            c = text[at]
            if c == "x":
                out += bytes([int(text[at + 1:at + 3], 16)])
                at += 2
            elif c == "{":
                bar = text.index("|", at)
                inner, end = unescape(text, bar + 1, "}")
                out += inner * int(text[at + 1:bar])
                at = end
            else:
                out += plain.get(c, c.encode("latin-1"))
        at += 1
    return out, at


class Row:
    def __init__(self, kind, name, section):
        self.response = kind == "response"
        self.name = "%s: %s" % (kind, name)
        self.section = section
        self.text = {}
        self.early = self.fin = False


def table(path):
    rows, section = [], ""
    for line in open(path, encoding="latin-1").read().split("\n"):
        key, _, text = line.partition(" ")
        if line.startswith("# ----"):
            section = line.strip("# -")
        elif key in ("request", "response"):
            rows.append(Row(key, text, section))
        elif key in ("early", "fin"):
            setattr(rows[-1], key, True)
        elif key in ("in", "out", "ask", "answer", "rest", "is"):
            rows[-1].text[key] = rows[-1].text.get(key, b"") + unescape(text)[0]
    for row in rows:
        words = row.text["is"].decode().split()
        row.end, row.statuses = words[-1], [int(w) for w in words[:-1]]
    return rows


def joined(data):
    """The same bytes, with the chunks of each message made one: where they are cut is free."""
    out = b""
    while data:
        head, end, rest = data.partition(b"\r\n\r\n")
        out += head + end
        if b"\r\nTransfer-Encoding: chunked" not in head + end:
            data = rest
            continue
        body = b""
        while rest and not rest.startswith(b"0"):
            line, _, rest = rest.partition(b"\r\n")
            body, rest = body + rest[:int(line, 16)], rest[int(line, 16) + 2:]
        out += b"%x\r\n%s\r\n" % (len(body), body) if body else b""
        data = rest
    return out


libc = ctypes.CDLL(None, use_errno=True)


def socket_in(namespace):
    """A socket stays in the namespace it was made in."""
    with open("/run/netns/" + namespace) as there, open("/proc/self/ns/net") as here:
        if libc.setns(there.fileno(), 0x40000000) < 0:
            raise OSError(ctypes.get_errno(), "setns")
        s = socket.socket()
        libc.setns(here.fileno(), 0x40000000)
    return s


class Leg:
    """One socket: what came, and how it ended (None, "fin", "rst")."""

    def __init__(self, sock):
        self.sock, self.data, self.end = sock, b"", None
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def step(self):
        try:
            got = self.sock.recv(1 << 20)
        except ConnectionError:
            self.end = "rst"
            return b""
        if not got:
            self.end = "fin"
        self.data += got
        return got

    def say(self, data):
        try:
            self.sock.sendall(data)
        except OSError:
            pass  # how it ended is seen by reading

    def shut(self):
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass


class Server(Leg):
    """A connection of the recording server; h11 says which requests it holds."""

    def __init__(self, sock, play):
        super().__init__(sock)
        self.play = play
        self.reader = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        self.requests = []  # [method, host, target, content so far, whole]
        self.bad = None
        self.tunnel = False

    def step(self):
        got = super().step()
        if self.tunnel or self.bad or not got:
            return
        self.reader.receive_data(got)
        try:
            self.events()
        except h11.RemoteProtocolError as e:
            self.bad = str(e)

    def events(self):
        while not self.tunnel:
            ev = self.reader.next_event()
            if ev in (h11.NEED_DATA, h11.PAUSED):
                return
            if isinstance(ev, h11.Request):
                host = dict(ev.headers).get(b"host", b"")
                self.requests.append([ev.method.decode(), host.decode("latin-1"),
                                      ev.target.decode(), 0, False])
                if self.play.row.early:
                    self.answer()
            elif isinstance(ev, h11.Data):
                self.requests[-1][3] += len(ev.data)
            elif isinstance(ev, h11.EndOfMessage):
                self.requests[-1][4] = True
                more, _ = self.reader.trailing_data
                self.reader = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
                if not self.play.row.early:
                    self.answer()
                self.reader.receive_data(more) if more else None

    def answer(self):
        row, play = self.play.row, self.play
        text = row.text.get("in" if row.response else "answer")
        if play.played or text is None:
            self.say(CANNED[:-2] if self.requests[-1][0] == "HEAD" else CANNED)
            return
        play.played = True
        self.tunnel = row.end == "tunnel"
        for part in play.cut(text) if row.response else [text]:
            self.say(part)
        if row.response and row.fin:
            self.shut()


class Play:
    """One row on one connection."""

    def __init__(self, row, box, halves):
        self.row, self.box, self.halves = row, box, halves
        self.played = False
        self.servers = []
        self.client = Leg(socket_in(box.client_ns))
        self.client.sock.bind(("", box.next_port()))  # the log tells connections apart by it
        self.client.sock.connect(box.server)
        self.port = self.client.sock.getsockname()[1]

    def cut(self, data):
        if not self.halves or len(data) < 2:
            return [data]
        middle = len(data) // 2
        return [data[:middle], b"", data[middle:]]

    def pump(self, until, patience=PATIENCE):
        """Reads whatever comes until `until` holds. False: it never did."""
        give_up = time.monotonic() + patience
        while not until():
            legs = [leg for leg in [self.client] + self.servers if leg.end is None]
            by = {leg.sock: leg for leg in legs}
            ready, _, _ = select.select([self.box.door] + list(by), [], [],
                                        max(0, give_up - time.monotonic()))
            if not ready:
                return False
            for s in ready:
                if s is self.box.door:
                    self.servers.append(Server(s.accept()[0], self))
                else:
                    by[s].step()
        return True

    def send(self, data):
        for part in self.cut(data):
            if part:
                self.client.say(part)
            else:
                self.pump(lambda: False, 0.003)  # so that the first half is acted on

    def statuses(self):
        return [int(s) for s in re.findall(rb"HTTP/1\.1 (\d{3})", self.client.data)]

    def run(self):
        row, want = self.row, self.row.statuses
        self.send(row.text["in"] if not row.response else
                  row.text.get("ask", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
        if row.fin and not row.response:
            self.client.shut()
        if "rest" in row.text:
            self.pump(lambda: self.statuses() or self.client.end)
            self.client.say(row.text["rest"])
        end = row.end
        if end == "tunnel":
            self.tunnel()
        elif end == "keep":
            self.pump(lambda: len(self.statuses()) >= len(want) or self.client.end)
            self.client.say(PROBE)
            self.pump(lambda: len(self.statuses()) > len(want) or self.client.end)
        else:
            self.pump(lambda: self.client.end)
        self.client.sock.close()
        self.client.end = self.client.end or "closed"
        self.pump(lambda: all(s.end for s in self.servers))
        for s in self.servers:
            s.sock.close()
        return self.judge()

    def tunnel(self):
        self.pump(lambda: self.statuses() or self.client.end)
        if not self.servers:
            return
        self.client.say(UP)
        self.servers[-1].say(DOWN)
        self.pump(lambda: self.client.end or (self.client.data.endswith(DOWN) and
                                              self.servers[-1].data.endswith(UP)))
        self.client.shut()
        self.pump(lambda: self.servers[-1].end or self.client.end)
        self.servers[-1].shut()
        self.pump(lambda: self.client.end)

    def judge(self):
        row, complaints = self.row, []
        recorded = b"".join(s.data for s in self.servers)
        heard = self.client.data
        statuses, want, end = self.statuses(), row.statuses, self.client.end
        if row.end == "keep":
            if not (recorded.endswith(PROBE) and heard.endswith(CANNED)):
                complaints.append("no further request was served (%s)" % end)
            recorded = recorded[:-len(PROBE)]
            heard, statuses = heard[:-len(CANNED)], statuses[:-1]
        elif row.end == "tunnel":
            if not (recorded.endswith(UP) and heard.endswith(DOWN)):
                complaints.append("no bytes went through the tunnel")
            recorded, heard = recorded[:-len(UP)], heard[:-len(DOWN)]
        elif row.end in ("reset", "abort") and end != "rst":
            complaints.append("the client saw %s, not a reset" % end)
        elif end not in ("fin", "rst"):
            complaints.append("the connection stayed open")
        if statuses != want and not (row.end == "abort" and want[:len(statuses)] == statuses):
            complaints.append("answered %s, not %s" % (statuses, want))
        # What was refused in its middle, or cut, may be shorter, never different.
        refused = bool(want) and want[-1] >= 400
        complaints += self.compare("the server got", recorded, row, not row.response, refused)
        complaints += self.compare("the client got", heard, row, row.response, row.end == "abort")
        complaints += ["h11 does not read it: " + s.bad for s in self.servers if s.bad]
        return complaints

    def compare(self, what, got, row, applies, may_be_shorter):
        if not applies or (row.response and "out" not in row.text):
            return []
        got, want = joined(got), joined(row.text.get("out", b""))
        if got == want or (may_be_shorter and want.startswith(got)):
            return []
        return ["%s %r, not %r" % (what, got[:500], want[:500])]


class Box:
    def __init__(self, client_ns, server_ns, address, port):
        self.client_ns, self.server = client_ns, (address, port)
        self.door = socket_in(server_ns)
        self.door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.door.bind(self.server)
        self.door.listen(16)
        self.port = 20000

    def next_port(self):
        self.port += 1
        return self.port


def logged(path, plays):
    """The requests of each connection, by the client's port, once all connections are there."""
    give_up = time.monotonic() + PATIENCE
    while True:
        requests, over = {}, set()
        for line in open(path, encoding="utf-8", errors="replace"):
            if not line.endswith("\n"):
                break
            r = json.loads(line)
            port = int(r["src.addr"].rsplit(":", 1)[1])
            if r["type"] == "request":
                requests.setdefault(port, []).append(r)
            else:
                over.add(port)
        if over >= {p.port for p in plays} or time.monotonic() > give_up:
            return requests
        time.sleep(0.05)


def same_request(found, record, tunnel):
    method, host, target, content, whole = found
    return (record["method"] == method and record.get("authority", "") == host and
            record.get("path", target if method == "CONNECT" else "")[:1500] == target[:1500] and
            (not whole or tunnel or record["request_body_bytes"] == content))


def read_twice(play, records):
    """h11's requests against the log's: the same, but for refused ones that never left."""
    found = [r for s in play.servers for r in s.requests]
    records = [r for r in records if r.get("attempts", 0) > 0]
    if len(found) <= len(records) and all(
            same_request(f, r, play.row.end == "tunnel") for f, r in zip(found, records)) and all(
            r["status"] >= 400 for r in records[len(found):]):
        return []
    said = [[r.get(k) for k in ("method", "authority", "path", "request_body_bytes", "status")]
            for r in records]
    return ["h11 reads %s, the log has %s" % (found, said)]


def nginx_reads(server_ns, data):
    """The requests that nginx answers if it is sent `data`, and whether it took all of it."""
    s = socket_in(server_ns)
    s.settimeout(PATIENCE)
    s.connect(("127.0.0.1", 80))
    answers = b""
    try:
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
        while True:
            got = s.recv(1 << 20)
            if not got:
                break
            answers += got
    except OSError:
        pass
    s.close()
    found = [(m.decode(), t.decode()) for m, t in
             re.findall(rb"\napi (\S+) (\S+) from 127\.0\.0\.1\n", answers)]
    return found, not re.search(rb"HTTP/1\.[01] [45]", answers)


def read_thrice(play, server_ns):
    """nginx may refuse what h11 reads, and ends there; it must not read anything else."""
    if play.row.end == "tunnel":
        return []
    for s in play.servers:
        # An answer to HEAD does not say what was asked.
        want = [(r[0], r[2]) for r in s.requests if r[0] != "HEAD"]
        found, all_of_it = nginx_reads(server_ns, s.data)
        whole = not s.requests or s.requests[-1][4]
        if found != want[:len(found)] or (all_of_it and whole and len(found) != len(want)):
            return ["h11 reads %s, nginx %s" % (want, found)]
    return []


def main():
    client_ns, server_ns, address, port, log = sys.argv[1:6]
    box = Box(client_ns, server_ns, address, int(port))
    rows = table(os.path.join(os.path.dirname(__file__), "..", "http1", "messages.txt"))
    plays, complaints = [], []
    for halves in (False, True):
        for row in rows:
            play = Play(row, box, halves)
            complaints.append(play.run())
            plays.append(play)
    requests = logged(log, plays)
    bad = {}
    for play, said in zip(plays, complaints):
        said += read_twice(play, requests.get(play.port, []))
        said += read_thrice(play, server_ns)
        for text in said:
            print("not ok - %s%s: %s" % (play.row.name, " (in two)" if play.halves else "", text))
            bad[play.row.section] = True
    for section in dict.fromkeys(row.section for row in rows):
        if section not in bad:
            n = sum(row.section == section for row in rows)
            print("ok - %d messages, whole and in two: %s" % (n, section))


main()
