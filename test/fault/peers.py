# SPDX-License-Identifier: Apache-2.0
"""Both ends of every flow of the fault tests: servers that remember what they were given, and
clients that know byte for byte what they have to get. Each flow carries a word of its own, from
which its bytes are made: those of another connection are never taken for it."""
import collections
import functools
import random
import socket
import struct
import threading
import time


class Wrong(Exception):
    """What must never happen, with or without a fault."""


@functools.lru_cache(maxsize=64)
def pattern(word, n):
    return random.Random(word).randbytes(n)


class Stream:
    """A socket that says how it ended, and waits no longer than its limit."""

    def __init__(self, sock, limit):
        self.sock = sock
        self.sock.settimeout(limit)
        self.held = b""
        self.end = None
        self.broken = False  # a reset is told once: to a send() here, whatever recv() says then

    def more(self, room=262144):
        """The next bytes, b"" at the end, which is then in self.end."""
        if self.held:
            got, self.held = self.held[:room], self.held[room:]
            return got
        if self.end is None:
            try:
                got = self.sock.recv(room)
                if got:
                    return got
                self.end = "rst" if self.broken else "fin"
            except (ConnectionError, OSError) as e:
                self.end = "timeout" if isinstance(e, TimeoutError) else "rst"
        return b""

    def until(self, mark):
        """Up to and with the mark; what there is if it does not come."""
        got = b""
        while mark not in got:
            part = self.more()
            if not part:
                return got
            got += part
        at = got.index(mark) + len(mark)
        self.held = got[at:] + self.held
        return got[:at]

    def exactly(self, n):
        parts, left = [], n
        while left > 0:
            part = self.more(min(left, 262144))
            if not part:
                break
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def rest(self):
        parts = []
        while True:
            part = self.more()
            if not part:
                return b"".join(parts)
            parts.append(part)

    def give(self, data):
        """False when the other end takes no more; what it said before can still be read."""
        try:
            self.sock.sendall(data)
            return True
        except TimeoutError:
            self.end = "timeout"
        except OSError:
            self.broken = True
        return False

    def fin(self):
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.broken = True

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self):
        self.sock.close()


# ---- HTTP, as much as both ends need ----


def parse_head(raw):
    lines = raw.decode("latin-1").split("\r\n")
    fields = {}
    for line in lines[1:]:
        if ":" in line:
            name, value = line.split(":", 1)
            fields[name.strip().lower()] = value.strip()
    return lines[0].split(" ", 2), fields


def read_body(s, fields):
    """The body, and whether it is whole by its framing. Without framing: (b"", True)."""
    if fields.get("transfer-encoding") == "chunked":
        body = []
        while True:
            line = s.until(b"\r\n")
            if not line.endswith(b"\r\n"):
                return b"".join(body), False
            size = int(line.split(b";")[0], 16)
            part = s.exactly(size)
            body.append(part)
            tail = s.exactly(2)
            if len(part) < size or tail != b"\r\n":
                return b"".join(body), False
            if size == 0:
                return b"".join(body), True
    n = int(fields.get("content-length", "0"))
    body = s.exactly(n)
    return body, len(body) == n


def chunked(data, word):
    sizes = random.Random(word + "sizes")
    out, at = [], 0
    while at < len(data):
        n = min(len(data) - at, int(2 ** sizes.uniform(0, 16)))
        out.append(b"%x\r\n%s\r\n" % (n, data[at:at + n]))
        at += n
    return b"".join(out) + b"0\r\n\r\n"


# ---- servers ----


class Servers:
    """HTTP, a stream of any bytes, and one that speaks first; in the namespace of `listen`."""

    def __init__(self, listen, http, stream, first, limit):
        self.lock = threading.Lock()
        self.limit = limit
        self.active = 0
        self.wrong = []
        self.requests = collections.Counter()  # by word: heads that came
        self.whole = collections.Counter()  # by word: requests that were whole
        for port, serve in ((http, self.http), (stream, self.stream), (first, self.first)):
            s = listen(port)
            threading.Thread(target=self.accept, args=(s, serve), daemon=True).start()

    def accept(self, listener, serve):
        while True:
            sock, _ = listener.accept()
            with self.lock:
                self.active += 1
            threading.Thread(target=self.run, args=(sock, serve), daemon=True).start()

    def run(self, sock, serve):
        s = Stream(sock, self.limit * 3)  # a kept connection waits for its client
        try:
            serve(s)
            if s.end == "timeout":
                raise Wrong("a server waits for bytes or for an end that does not come")
        except Wrong as e:
            with self.lock:
                self.wrong.append(str(e))
        except OSError:
            pass
        s.close()
        with self.lock:
            self.active -= 1

    def quiet(self):
        """Waits until nobody is served any more."""
        until = time.monotonic() + self.limit
        while self.active > 0:
            if time.monotonic() > until:
                raise Wrong("a server's connection does not end")
            time.sleep(0.0005)
        with self.lock:
            if self.wrong:
                raise Wrong(self.wrong.pop(0))

    def http(self, s):
        while True:
            raw = s.until(b"\r\n\r\n")
            if not raw.endswith(b"\r\n\r\n"):
                return
            (method, target, _), fields = parse_head(raw)
            word, what, n = self.request_of(method, target)
            with self.lock:
                self.requests[word] += 1
            if "expect" in fields and not s.give(b"HTTP/1.1 100 Continue\r\n\r\n"):
                return
            body, whole = read_body(s, fields)
            want = pattern(word + ".up", n) if what == "echo" else b""
            if not want.startswith(body) or (whole and body != want):
                raise Wrong("%s: the server got a body that its client did not send" % word)
            if not whole:
                return
            with self.lock:
                self.whole[word] += 1
            if not self.answer(s, word, what, n, method, body):
                return

    @staticmethod
    def request_of(method, target):
        if method == "CONNECT":
            return target.split(".")[0], "connect", 0
        parts = target.split("/")  # /f/WORD/WHAT/N
        if len(parts) != 5 or parts[1] != "f":
            raise Wrong("the server got a request for %s" % target)
        return parts[2], parts[3], int(parts[4])

    def answer(self, s, word, what, n, method, body):
        """True if the connection serves another request."""
        data = body if what == "echo" else pattern(word + ".down", n)
        head = b"HTTP/1.1 200 OK\r\n"
        if what in ("upgrade", "connect"):
            s.give(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
                   if what == "upgrade" else head + b"\r\n")
            self.echo(s, word)
            return False
        if what in ("204", "304"):
            return s.give(b"HTTP/1.1 %s X\r\nETag: \"%s\"\r\n\r\n" % (what.encode(), word.encode()))
        if what == "close":
            s.give(head + b"Connection: close\r\n\r\n" + data)
            return False
        if what == "chunked":
            return s.give(head + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(data, word))
        head += b"Content-Length: %d\r\n\r\n" % len(data)
        return s.give(head if method == "HEAD" else head + data)

    def echo(self, s, word):
        """Says again what it hears; a clean end must come behind everything."""
        line = s.until(b"\n")
        if not line.endswith(b"\n"):
            if s.end == "fin":
                raise Wrong("%s: the server got half a line and a clean end" % word)
            return
        self.play(s, *line.decode().split())

    def play(self, s, mode, word, n):
        want = pattern(word + ".up", int(n))
        got = []
        if mode == "half":
            s.give(pattern(word + ".down", int(n)))
            s.fin()
        if mode in ("reset", "break"):
            s.give(s.exactly(int(n)))
        if mode == "break":
            s.exactly(1)
            s.reset()
            return
        while True:
            part = s.more()
            if not part:
                break
            got.append(part)
            if mode == "echo" and not s.give(part):
                s.rest()
                break
        if mode == "reset":
            if s.end == "fin":
                raise Wrong("%s: the client reset, the server got a clean end" % word)
            return
        got = b"".join(got)
        if not want.startswith(got):
            raise Wrong("%s: the server got bytes that its client did not send" % word)
        if s.end == "fin" and got != want:
            raise Wrong("%s: the server got %d of %d bytes and a clean end" %
                        (word, len(got), len(want)))

    def stream(self, s):
        self.echo(s, "a stream")

    def first(self, s):
        if s.give(pattern("greeting", 5000)):
            self.echo(s, "a stream")
        else:
            s.rest()


# ---- clients ----


class Flows:
    """One of each kind. A flow returns "whole" or, with what cut it short, "refused" or "cut"."""

    def __init__(self, http, stream, first, servers, limit):
        self.where = {"http": http, "stream": stream, "first": first}
        self.servers = servers
        self.limit = limit
        self.lock = threading.Lock()
        self.count = 0
        self.refusals = []  # (path, status) that the access log must know
        self.large = 300000

    def word(self):
        with self.lock:
            self.count += 1
            return "w%d" % self.count

    def dial(self, where):
        try:
            return Stream(socket.create_connection(self.where[where], self.limit), self.limit)
        except TimeoutError:
            raise Wrong("a connect() hangs")
        except OSError:
            return None

    # -- HTTP --

    @staticmethod
    def request(method, word, what, n, fields=b"", path="/f/%s/%s/%d"):
        return b"%s %s HTTP/1.1\r\nHost: api\r\n%s\r\n" % (
            method.encode(), (path % (word, what, n)).encode(), fields)

    def response(self, s, method):
        """(status, body, whole, fields): status 0 when there is none."""
        while True:
            raw = s.until(b"\r\n\r\n")
            if s.end == "timeout":
                raise Wrong("no answer comes")
            if not raw.endswith(b"\r\n\r\n"):
                return 0, b"", False, {}
            (_, status, *_), fields = parse_head(raw)
            if status != "100":
                break
        status = int(status)
        if method == "HEAD" or status in (204, 304, 101) or (method == "CONNECT" and status == 200):
            return status, b"", True, fields
        if "content-length" in fields or "transfer-encoding" in fields:
            body, whole = read_body(s, fields)
        else:
            body = s.rest()
            whole = s.end == "fin"
        if s.end == "timeout":
            raise Wrong("an answer does not end")
        return status, body, whole, fields

    def judge(self, s, method, path, word, status, want, sent=True):
        """What came for one request."""
        got, body, whole, fields = self.response(s, method)
        if got == 0:
            return "cut"
        if got == status:
            if not want.startswith(body):
                raise Wrong("%s: bytes that were not meant for it" % path)
            if whole and body != want:
                raise Wrong("%s: %d of %d bytes look whole" % (path, len(body), len(want)))
            if whole and sent and self.servers.whole[word] != 1:
                raise Wrong("%s: %d, and the server got %d requests" %
                            (path, got, self.servers.whole[word]))
            return "whole" if whole else "cut"
        if got < 400 or fields.get("content-type", "text/plain") != "text/plain":
            raise Wrong("%s: status %d" % (path, got))
        with self.lock:
            self.refusals.append((path, got))
        return "refused" if whole else "cut"

    def ask(self, s, method, what, n, body=None, framing="length", status=200, fields=b"",
            path="/f/%s/%s/%d"):
        """One request on an open connection, and its answer."""
        word = self.word()
        target = path % (word, what, n)
        if body is not None:
            body = pattern(word + ".up", n)
            fields += (b"Transfer-Encoding: chunked\r\n" if framing == "chunked" else
                       b"Content-Length: %d\r\n" % n)
        head = self.request(method, word, what, n, fields, path)
        content = b"" if body is None else chunked(body, word) if framing == "chunked" else body
        want = b"" if method == "HEAD" or status in (204, 304) else (
            body if body is not None else pattern(word + ".down", n))
        if status == 403:
            want = b"Access denied\r\n"
        if b"100-continue" in fields:
            if s.give(head):
                early = s.until(b"\r\n\r\n")
                s.held = (b"" if early.startswith(b"HTTP/1.1 100") else early) + s.held
                if early.startswith(b"HTTP/1.1 100"):
                    s.give(content)
        elif len(content) > 100000:
            if s.give(head):
                s.give(content)
        else:
            s.give(head + content)
        result = self.judge(s, method, target, word, status, want, status != 403)
        if self.servers.requests[word] > 1:
            raise Wrong("%s: the server got it %d times" % (target, self.servers.requests[word]))
        if status == 403 and self.servers.requests[word]:
            raise Wrong("%s: refused, but the server got it" % target)
        return result

    def one(self, *args, **named):
        s = self.dial("http")
        if s is None:
            return "cut"
        try:
            return self.ask(s, *args, **named)
        finally:
            s.close()

    def get_small(self):
        return self.one("GET", "length", 100)

    def get_large(self):
        return self.one("GET", "length", self.large)

    def get_chunked(self):
        return self.one("GET", "chunked", 3000)

    def get_chunked_large(self):
        return self.one("GET", "chunked", self.large)

    def get_until_close(self):
        return self.one("GET", "close", 100000)

    def post_small(self):
        return self.one("POST", "echo", 100, body=True)

    def post_chunked(self):
        return self.one("POST", "echo", 3000, body=True, framing="chunked")

    def post_large(self):
        return self.one("POST", "echo", self.large, body=True)

    def post_chunked_large(self):
        return self.one("POST", "echo", self.large, body=True, framing="chunked")

    def expect(self):
        return self.one("POST", "echo", 5000, body=True, fields=b"Expect: 100-continue\r\n")

    def head(self):
        return self.one("HEAD", "length", 5000)

    def no_content(self):
        return self.one("GET", "204", 0, status=204)

    def not_modified(self):
        return self.one("GET", "304", 0, status=304)

    def refused(self):
        return self.one("POST", "echo", 2000, body=True, status=403, path="/private/%s/%s/%d")

    def keep_alive(self):
        s = self.dial("http")
        if s is None:
            return "cut"
        try:
            for what in ("length", "chunked", "echo", "204", "length"):
                result = self.ask(s, "POST" if what == "echo" else "GET", what,
                                  0 if what == "204" else 700,
                                  body=True if what == "echo" else None,
                                  status=204 if what == "204" else 200)
                if result != "whole":
                    return result
            return result
        finally:
            s.close()

    def pipelined(self):
        s = self.dial("http")
        if s is None:
            return "cut"
        words = [self.word() for _ in range(4)]
        try:
            s.give(b"".join(self.request("GET", w, "length", 900) for w in words))
            for w in words:
                target = "/f/%s/length/900" % w
                result = self.judge(s, "GET", target, w, 200, pattern(w + ".down", 900))
                if self.servers.requests[w] > 1:
                    raise Wrong("%s: the server got it twice" % target)
                if result != "whole":
                    return result
            return result
        finally:
            s.close()

    # -- any bytes --

    def tunnel(self, method, status, fields):
        s = self.dial("http")
        if s is None:
            return "cut"
        word = self.word()
        try:
            if method == "CONNECT":
                path = "%s.example:443" % word
                s.give(b"CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (path.encode(), path.encode()))
            else:
                path = "/f/%s/upgrade/0" % word
                s.give(self.request("GET", word, "upgrade", 0, fields))
            result = self.judge(s, method, path, word, status, b"")
            return self.echo(s, word, 20000) if result == "whole" else result
        finally:
            s.close()

    def upgrade(self):
        return self.tunnel("GET", 101, b"Connection: upgrade\r\nUpgrade: echo\r\n")

    def connect(self):
        return self.tunnel("CONNECT", 200, b"")

    def ended(self, s, got, want, what):
        if s.end == "timeout":
            raise Wrong("%s: neither bytes nor an end" % what)
        if not want.startswith(got):
            raise Wrong("%s: bytes that were not meant for it" % what)
        if s.end == "fin" and got != want:
            raise Wrong("%s: %d of %d bytes and a clean end" % (what, len(got), len(want)))
        return "whole" if s.end == "fin" else "cut"

    def echo(self, s, word, n):
        data = pattern(word + ".up", n)
        sender = None
        if n <= 50000:
            s.give(b"echo %s %d\n" % (word.encode(), n) + data)
            s.fin()
        else:
            sender = threading.Thread(target=self.send_all, args=(s, word, data))
            sender.start()
        got = s.rest()
        if sender is not None:
            sender.join()
            s.end = "rst" if s.broken and s.end == "fin" else s.end
        return self.ended(s, got, data, word)

    @staticmethod
    def send_all(s, word, data):
        s.give(b"echo %s %d\n" % (word.encode(), len(data)) + data)
        s.fin()

    def with_stream(self, where, play):
        s = self.dial(where)
        if s is None:
            return "cut"
        try:
            return play(s, self.word())
        finally:
            s.close()

    def stream_echo(self):
        return self.with_stream("stream", lambda s, w: self.echo(s, w, 5000))

    def stream_large(self):
        return self.with_stream("stream", lambda s, w: self.echo(s, w, self.large))

    def stream_half(self):
        """The server ends first, and still hears the client out."""
        def play(s, word):
            s.give(b"half %s 9000\n" % word.encode())
            result = self.ended(s, s.rest(), pattern(word + ".down", 9000), word)
            s.give(pattern(word + ".up", 9000))
            s.fin()
            return result
        return self.with_stream("stream", play)

    def stream_first(self):
        def play(s, word):
            want = pattern("greeting", 5000)
            got = s.exactly(5000)
            if got != want:
                return self.ended(s, got, want, word)
            return self.echo(s, word, 3000)
        return self.with_stream("first", play)

    def stream_client_resets(self):
        def play(s, word):
            data = pattern(word + ".up", 3000)
            s.give(b"reset %s 3000\n" % word.encode() + data)
            got = s.exactly(3000)
            if got != data:
                if s.end == "fin":
                    raise Wrong("%s: %d of 3000 bytes and a clean end" % (word, len(got)))
                return self.ended(s, got, data, word)
            s.reset()
            return "whole"
        return self.with_stream("stream", play)

    def stream_server_resets(self):
        def play(s, word):
            data = pattern(word + ".up", 3000)
            s.give(b"break %s 3000\n" % word.encode() + data)
            got = s.exactly(3000)
            s.give(b"!")
            s.rest()
            if s.end == "fin":
                raise Wrong("%s: the server reset, the client got a clean end" % word)
            return self.ended(s, got, data, word) and ("whole" if got == data else "cut")
        return self.with_stream("stream", play)

    NAMES = ("get_small get_large get_chunked get_chunked_large get_until_close post_small "
             "post_chunked post_large post_chunked_large expect head no_content not_modified refused "
             "keep_alive pipelined upgrade connect stream_echo stream_large stream_half stream_first "
             "stream_client_resets stream_server_resets").split()

    def run(self, name):
        return getattr(self, name)()
