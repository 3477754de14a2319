#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A websocket server and client, by Debian's python3-websockets.

usage: websocket.py serve PORT       echoes every message
       websocket.py ask URL          text, a megabyte, a ping, a close; prints what became of each"""
import asyncio
import os
import sys

sys.path.pop(0)  # the http.py beside this file is not Python's http
import websockets  # noqa: E402


async def echo(connection, path=None):
    async for message in connection:
        await connection.send(message)


async def serve(port):
    async with websockets.serve(echo, "", port, max_size=None):
        await asyncio.Future()


async def ask(url):
    try:
        async with websockets.connect(url, max_size=None) as ws:
            await ws.send("hello")
            print("text", await ws.recv())
            block = os.urandom(1 << 20)
            await ws.send(block)
            print("megabyte", await ws.recv() == block)
            await (await ws.ping())
            print("pong")
        print("closed", ws.close_code)
    except websockets.InvalidStatusCode as e:
        print("status", e.status_code)


asyncio.run(serve(int(sys.argv[2])) if sys.argv[1] == "serve" else ask(sys.argv[2]))
