#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A server that breaks, and the client that looks at what is left of its answer.

usage: breaks.py serve PORT      GET /WHAT-HOW: WHAT of the answer is sent, then HOW it ends
       breaks.py ask HOST PORT TARGET...

WHAT: nothing, status (half a status line), head (half a head), interim (a 103 only), length,
chunks, close (a head and half of its content, framed that way). HOW: fin, rst, hold (it does
not: the other side has to), late (the other half comes after two seconds). The client prints
one line for each target: its status, whether the answer was whole by its own framing, and how
the connection ended."""
import re
import socket
import socketserver
import struct
import sys
import time

SENT = {
    "nothing": b"",
    "status": b"HTTP/1.1 2",
    "head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "interim": b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n",
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    "close": b"HTTP/1.1 200 OK\r\n\r\nhalf",
    "whole": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole",
}


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        target = self.rfile.readline().split()[1].decode()
        while self.rfile.readline() not in (b"\r\n", b""):
            pass
        what, how = target.lstrip("/").split("-")
        self.wfile.write(SENT[what])
        time.sleep(0.05)  # most times this much has reached the client before it breaks
        if how == "hold":
            try:
                self.rfile.read(1)
            except ConnectionError:
                pass
        if how == "late":
            time.sleep(2)
            self.wfile.write(bytes(96))
        if how == "rst":
            self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.request.close()


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass

    def shutdown_request(self, request):
        request.close()  # a FIN where the handler did not reset


def is_whole(head, body, end):
    length = re.search(rb"\r\nContent-Length: (\d+)", head)
    if length:
        return len(body) == int(length[1])
    if b"\r\nTransfer-Encoding: chunked" in head:
        return body.endswith(b"0\r\n\r\n")
    return end == "fin"


def ask(host, port, target):
    s = socket.create_connection((host, int(port)), 10)
    s.sendall(b"GET /%s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % target.encode())
    data, end = b"", "fin"
    try:
        while True:
            got = s.recv(65536)
            if not got:
                break
            data += got
    except ConnectionError:
        end = "rst"
    while data.startswith(b"HTTP/1.1 1"):
        data = data.partition(b"\r\n\r\n")[2]
    head, found, body = data.partition(b"\r\n\r\n")
    if not found:
        return "none " + end
    return "%s %s %s" % (head[9:12].decode(), "whole" if is_whole(head, body, end) else "cut", end)


if sys.argv[1] == "serve":
    Server(("", int(sys.argv[2])), Handler).serve_forever()
for name in sys.argv[4:]:
    print(name, ask(sys.argv[2], sys.argv[3], name), flush=True)
