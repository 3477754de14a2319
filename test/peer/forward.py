#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A forward proxy that knows CONNECT only, and one destination whatever it is asked for.
usage: forward.py PORT HOST PORT"""
import socket
import socketserver
import sys
import threading


def copy(a, b):
    try:
        while True:
            data = a.recv(65536)
            if not data:
                break
            b.sendall(data)
        b.shutdown(socket.SHUT_WR)
    except OSError:
        pass


class Handler(socketserver.StreamRequestHandler):
    rbufsize = 0  # what follows the head belongs to the tunnel

    def handle(self):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.rfile.read(1)
        if not head.startswith(b"CONNECT "):
            self.wfile.write(b"HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n")
            return
        there = socket.create_connection((sys.argv[2], int(sys.argv[3])))
        self.wfile.write(b"HTTP/1.1 200 Connected\r\nX-Asked: %s\r\n\r\n" % head.split(b" ")[1])
        back = threading.Thread(target=copy, args=(there, self.request))
        back.start()
        copy(self.request, there)
        back.join()


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


Server(("", int(sys.argv[1])), Handler).serve_forever()
