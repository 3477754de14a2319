#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A second HTTP server, which answers in ways nginx does not. usage: http.py PORT

  /public/echo          the request's body, with its length (whatever framing it came in)
  /public/until-close   a body that ends with the connection, no length
  /public/chunks        three chunks, a trailer
  /public/big?N         N bytes, streamed
  /public/cut           half of what Content-Length says, then closes
  /public/reset         resets instead of answering
  /public/vanish        closes instead of answering
  /public/slow          answers after half a second
  /public/close         Connection: close
  /public/interim       a 103 before its 200
  /public/head          the request's head as it came, but for its CRs, then its trailers
"""
import socket
import socketserver
import struct
import sys
import time


class Handler(socketserver.StreamRequestHandler):
    def head(self):
        self.raw = self.rfile.readline()
        line = self.raw.decode("latin-1").split()
        fields = {}
        self.trailers = ""
        while True:
            self.raw += self.rfile.readline()
            field = self.raw.decode("latin-1").split("\r\n")[-2]
            if not field:
                return line, fields
            name, value = field.split(":", 1)
            fields[name.lower()] = value.strip()

    def body(self, fields):
        if fields.get("transfer-encoding") == "chunked":
            out = b""
            while True:
                size = int(self.rfile.readline().split(b";")[0], 16)
                out += self.rfile.read(size)
                if size == 0:
                    break
                self.rfile.readline()
            while True:
                trailer = self.rfile.readline().decode("latin-1").rstrip("\r\n")
                if not trailer:
                    return out
                self.trailers += "trailer " + trailer + "\n"
        return self.rfile.read(int(fields.get("content-length", 0)))

    def say(self, text):
        self.wfile.write(text if isinstance(text, bytes) else text.encode())

    def answer(self, path, body):
        path, _, query = path.partition("?")
        if path == "/public/until-close":
            self.say("HTTP/1.1 200 OK\r\n\r\nuntil the end")
            return False
        if path == "/public/chunks":
            self.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
                     "3\r\none\r\n3;x=y\r\ntwo\r\n5\r\nthree\r\n0\r\nX-Sum: 3\r\n\r\n")
        elif path == "/public/big":
            left = int(query)
            self.say("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % left)
            block = bytes(range(256)) * 256
            while left > 0:
                self.say(block[:left])
                left -= len(block)
        elif path == "/public/cut":
            self.say("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + "x" * 50)
            return False
        elif path == "/public/reset":
            self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.request.close()
            return False
        elif path == "/public/vanish":
            return False
        elif path == "/public/interim":
            self.say("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
                     "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfinal")
        else:
            if path == "/public/slow":
                time.sleep(0.5)
            close = path == "/public/close"
            out = body or (path + "\n").encode()
            if path == "/public/head":
                out = self.raw.replace(b"\r\n", b"\n") + self.trailers.encode("latin-1")
            self.say("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s\r\n"
                     % (len(out), "Connection: close\r\n" if close else ""))
            self.say(out)
            return not close
        return True

    def handle(self):
        while True:
            line, fields = self.head()
            if not line:
                return
            body = self.body(fields)
            if not self.answer(line[1], body):
                return


class Server(socketserver.ThreadingTCPServer):
    address_family = socket.AF_INET6
    allow_reuse_address = True
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass


Server(("::", int(sys.argv[1])), Handler).serve_forever()
