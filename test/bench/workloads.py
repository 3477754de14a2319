# SPDX-License-Identifier: Apache-2.0
"""What is asked of the proxies: one entry each. A later one (mutual TLS, HTTP/2, ...) is one
more."""
from dataclasses import dataclass


@dataclass(frozen=True)
class Workload:
    name: str
    title: str
    load: tuple = ()  # of generate, without its times; empty: connections are held instead
    http: bool = True  # else the proxy is to see a stream of any bytes
    rule: bool = True  # GET and ^/[0-9]*$, else 403
    log: bool = True  # one JSON line for each request
    fresh: bool = False  # a connection for each request
    unit: str = "request"  # what CPU is counted for: request or GB
    one_core: bool = False  # proxy, load and server share a core

    @property
    def length(self):
        """Content of an answer, in bytes."""
        path = self.load[self.load.index("-p") + 1] if "-p" in self.load else "/13"
        return int(path[1:])


WORKLOADS = {w.name: w for w in (
    Workload("h1", "HTTP/1 hop, rule and log", ("-c", "50")),
    Workload("h1-bare", "HTTP/1 hop, neither (shunt: a rule that allows all)", ("-c", "50"),
             rule=False, log=False),
    Workload("h1-1k", "HTTP/1 hop, rule and log, 1 KB", ("-c", "50", "-p", "/1024")),
    Workload("tcp", "TCP hop", ("-c", "50"), http=False, rule=False),
    Workload("new", "new connections, rule and log", ("-c", "20", "-k", "0"), fresh=True),
    Workload("new-tcp", "new TCP connections", ("-c", "20", "-k", "0"), http=False, rule=False,
             fresh=True),
    Workload("bulk", "bulk, one of 100 MB", ("-c", "1", "-p", "/100000000"), unit="GB"),
    Workload("bulk-8", "bulk, eight of 10 MB", ("-c", "8", "-p", "/10000000"), unit="GB"),
    Workload("open", "5,000 requests/s, open loop", ("-c", "50", "-r", "5000")),
    Workload("alone", "one connection, all on one core, neither", ("-c", "1"), rule=False,
             log=False, one_core=True),
    Workload("memory", "idle connections, HTTP/1"),
)}
