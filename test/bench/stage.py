# SPDX-License-Identifier: Apache-2.0
"""One sample: a server, one seat, one workload; what it cost, and whether it may count."""
import json
import os
import subprocess
import time

from processes import Busy, Failure, Process, settle, wait_quiet

WARMUP = 0.5
SETTLED = 0.2  # seconds for what comes behind the last answer
HELD = (1000, 9000)  # idle connections
DESCRIPTORS_KEPT = 1500
LOAD_CORE = 1


class Stage:
    """A place, the lab, and who does what there."""

    def __init__(self, place, lab, workload, build, wrap=()):
        self.wrap = list(wrap)  # what a proxy's command is run by
        self.place = place
        self.lab = lab
        self.workload = workload
        self.build = build
        self.load_core = LOAD_CORE
        self.proxy_core = LOAD_CORE if workload.one_core else 1 - LOAD_CORE

    def tool(self, name):
        return os.path.join(self.build, "test/bench", name)

    def server(self, core=None):
        process = Process(self.place.server, self.load_core if core is None else core,
                          [self.tool("upstream"), self.place.upstream])
        for _ in range(500):
            if self.place.listens(self.place.server, self.place.upstream):
                return process
            time.sleep(0.01)
        process.stop()
        raise Failure("the server does not listen")

    def generate(self, seat, *options, patience=60):
        """Runs the load to its end; what it says of itself."""
        if self.place.source:
            options += ("-s", self.place.source)
        process = Process(self.place.client, self.load_core,
                          [self.tool("generate"), *options, seat.target(self)])
        text = process.output(patience)
        return json.loads(text)

    def check_rule(self, seat):
        """A proxy that has to refuse is asked for what it has to refuse. Returns how many
        requests that were."""
        if not (self.workload.rule and self.workload.http) or seat.floor:
            return 0
        if self.generate(seat, "-n", "1", "-x", "403", "-p", "/refused")["errors"]:
            raise Failure(f"{seat.name} does not refuse what the rule does not allow")
        return 1


def cpu_of(processes):
    return sum(process.cpu_ns() for process in processes)


def take(stage, seat, seconds, patience):
    """(metrics, why it does not count or None)"""
    quiet = wait_quiet(patience) if patience else None
    server = stage.server(seat.core)
    try:
        proxies = seat.start(stage)
        try:
            settle(proxies)
            if stage.workload.load:
                metrics, asked = measure_load(stage, seat, server, proxies, seconds)
            else:
                metrics, asked = measure_memory(stage, seat, proxies), None
        finally:
            seat.stop(stage, proxies)
    finally:
        seen = server.stop()
    metrics["quiet"] = quiet
    metrics["server"] = json.loads(seen) if seen else {}
    why = None
    if asked is not None:
        why = check_counts(stage, seat, metrics, asked)
    return metrics, why


def measure_load(stage, seat, server, proxies, seconds):
    work = stage.workload
    refused = stage.check_rule(seat)
    busy, proxy_before, server_before = Busy(), cpu_of(proxies), server.cpu_ns()
    said = stage.generate(seat, *work.load, "-d", str(seconds), "-w",
                          str(min(WARMUP, seconds)), "-l", str(work.length))
    time.sleep(SETTLED)  # the last lines of a log are work of these requests
    proxy, upstream = cpu_of(proxies) - proxy_before, server.cpu_ns() - server_before
    elapsed, all_ns = busy.since()
    of_all = proxy + upstream + said["cpu_ns"]
    metrics = dict(said, proxy_ns=proxy, server_ns=upstream, elapsed=elapsed,
                   foreign=(all_ns - of_all) / 1e9 / elapsed, refused=refused)
    if said["requests"] > 0:
        # µs for a request; seconds for a GB, which is ns for a byte
        units = said["requests"] * 1e3 if work.unit == "request" else said["bytes"]
        if seat.core is not None:
            metrics["cpu"] = upstream / units
        elif proxies:
            metrics["cpu"] = proxy / units
            metrics["busy"] = proxy / 1e9 / (elapsed - SETTLED)
        metrics["all"] = of_all / units
        metrics["mb_s"] = said["bytes"] / 1e6 / (elapsed - SETTLED)
    metrics["rss"] = sum(process.memory()[0] for process in proxies)
    if not all(process.lives() for process in proxies):
        raise Failure(f"{seat.name} ended: {proxies[0].complaint()}")
    return metrics, said["requests"] + said["errors"] + refused


def check_counts(stage, seat, metrics, asked):
    """Everything that was asked was answered, arrived at the server, and stands in the log."""
    work, server = stage.workload, metrics["server"]
    if metrics["errors"] or not metrics["measured"]:
        return f"{metrics['errors']} errors"
    if server.get("requests") != asked - metrics["refused"]:
        return f"the server saw {server.get('requests')} of {asked} requests"
    if work.unit == "GB" and abs(server["bytes"] / metrics["bytes"] - 1) > 0.001:
        return f"the server sent {server['bytes']} bytes, {metrics['bytes']} arrived"
    if work.fresh and metrics["dials"] != metrics["requests"]:
        return f"{metrics['dials']} connections for {metrics['requests']} requests"
    lines = seat.lines(stage)
    metrics["lines"] = lines
    if lines is not None and lines != asked:
        return f"{lines} lines in the log for {asked} requests"
    return None


def slab():
    with open("/proc/meminfo", encoding="ascii") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith("Slab:"))


def resident(processes):
    return [sum(part) for part in zip(*(process.memory() for process in processes))]


def held_counts():
    """As many as descriptors allow: each is two in a proxy."""
    limit = int(subprocess.run(["sh", "-c", "ulimit -Hn"], capture_output=True,
                               check=True).stdout.decode().replace("unlimited", "1048576"))
    most = (limit - DESCRIPTORS_KEPT) // 2
    return [min(n, most) for n in HELD]


def measure_memory(stage, seat, proxies):
    """Bytes that stay with each idle connection, after one request on it."""
    began, maps = resident(proxies)
    metrics = {"start": began - maps, "maps": maps}
    if stage.generate(seat, "-n", "100", "-l", "13")["errors"]:  # what is there for the first
        raise Failure(f"{seat.name} does not answer")
    metrics["base"] = resident(proxies)[0] - maps
    source = ["-s", stage.place.source] if stage.place.source else []
    holders, held, slab_before = [], 0, slab()
    try:
        for want in held_counts():
            holder = Process(stage.place.client, stage.load_core,
                             [stage.tool("hold"), *source, seat.target(stage), str(want - held)],
                             stdin=subprocess.PIPE)
            holders.append(holder)
            said = holder.popen.stdout.readline().decode().split()
            if said != ["ready", str(want - held)]:
                raise Failure(f"{seat.name} holds {said} of {want - held} connections")
            held = want
            time.sleep(0.3)
            now, now_maps = resident(proxies)
            metrics[f"at_{HELD[len(holders) - 1]}"] = (now - now_maps - metrics["base"]) / held
        metrics["kernel"] = (slab() - slab_before) / held
    finally:
        for holder in holders:
            holder.popen.stdin.close()
            holder.popen.stdin = None
            holder.stop()
    metrics["held"] = held
    return metrics
