# SPDX-License-Identifier: Apache-2.0
"""One session: all seats of one workload, alive at the same time, that take their turns in short
bursts. What disturbs the machine for longer than a pass disturbs all of them alike."""
import json
import os
import statistics
import subprocess
import time

from processes import Busy, Failure, Process, settle, wait_quiet, wait_until

BURST = 0.1  # seconds: the shorter, the more a pair of them has in common
WARMUP = 0.5
SETTLED = 0.02  # for what comes behind the last answer: the lines of its log
TRIES = 3  # of a burst that others disturbed
HELD = (1000, 8000)  # idle connections; of 20,000 descriptors shunt gives one workload 16,600
DESCRIPTORS_KEPT = 1500
LOAD_CORE = 1


class Stage:
    """A seat at a workload, with a place, a folder and a server of its own."""

    def __init__(self, seat, workload, place, folder, build, wrap=()):
        self.seat = seat
        self.workload = workload
        self.place = place
        self.folder = folder
        self.build = build
        self.wrap = list(wrap)  # what a proxy's command is run by
        self.proxy_core = LOAD_CORE if workload.one_core else 1 - LOAD_CORE
        self.server = self.load = None
        self.proxies = []
        self.refused = 0

    def tool(self, name):
        return os.path.join(self.build, "test/bench", name)

    def up(self):
        self.place.up()
        self.server = Process(self.place.server,
                              LOAD_CORE if self.seat.core is None else self.seat.core,
                              [self.tool("upstream"), self.place.upstream])
        wait_until(lambda: self.place.listens(self.place.server, self.place.upstream),
                   "the server does not listen")
        self.proxies = self.seat.start(self)
        settle(self.proxies + [self.server])
        self.check_rule()

    def down(self):
        """Ends all of it, also what is half up. Returns what the server has seen."""
        if self.load is not None:
            self.load.close()
        self.seat.stop(self, self.proxies)
        seen = self.server.stop() if self.server is not None else ""
        self.place.down()
        return json.loads(seen) if seen else {}

    def options(self):
        """Of the load's programs."""
        return ("-s", self.place.source) if self.place.source else ()

    def generate(self, *options, patience=60):
        """Runs a load of its own to its end; what it says."""
        process = Process(self.place.client, LOAD_CORE,
                          [self.tool("generate"), *options, *self.options(),
                           self.seat.target(self)])
        return json.loads(process.output(patience))

    def hold(self, count):
        """Opens idle connections, which end with the process that is returned."""
        process = Process(self.place.client, LOAD_CORE,
                          [self.tool("hold"), *self.options(), self.seat.target(self),
                           str(count)], stdin=subprocess.PIPE)
        said = process.popen.stdout.readline().decode().split()
        if said != ["ready", str(count)]:
            process.close()
            raise Failure(f"{self.seat.name} holds {said} of {count} connections")
        return process

    def check_rule(self):
        """A proxy that has to refuse is asked for what it has to refuse."""
        if not (self.workload.rule and self.workload.http) or self.seat.floor:
            return
        if self.generate("-n", "1", "-x", "403", "-p", "/refused")["errors"]:
            raise Failure(f"{self.seat.name} does not refuse what the rule does not allow")
        self.refused = 1

    def warm(self):
        self.load = Process(self.place.client, LOAD_CORE,
                            [self.tool("generate"), *self.workload.load, "-i", "-l",
                             str(self.workload.length), *self.options(), self.seat.target(self)],
                            stdin=subprocess.PIPE)
        return [json.loads(self.load.ask(WARMUP, 60))]

    def burst(self):
        """What one burst of the load was, and what it cost."""
        busy = Busy()
        before = [cpu_of(group) for group in self.groups()]
        said = json.loads(self.load.ask(BURST, 60))
        time.sleep(SETTLED)
        proxy, server, load = (cpu_of(group) - was
                               for group, was in zip(self.groups(), before))
        elapsed, all_ns = busy.since()
        units = said["bytes"] if self.workload.unit == "GB" else said["requests"] * 1e3
        said |= {"proxy_ns": proxy, "server_ns": server, "cpu_ns": load, "elapsed": elapsed,
                 "foreign": (all_ns - proxy - server - load) / 1e9 / elapsed}
        if units > 0:  # µs for a request; seconds for a GB, which is ns for a byte
            if self.proxies or self.seat.core is not None:
                said["cpu"] = (proxy if self.proxies else server) / units
            said["all"] = (proxy + server + load) / units
            said["mb_s"] = said["bytes"] / 1e6 / (elapsed - SETTLED)
            if self.proxies:
                said["busy"] = proxy / 1e9 / (elapsed - SETTLED)
        return said

    def groups(self):
        return self.proxies, [self.server], [self.load]


def cpu_of(processes):
    return sum(process.cpu_ns() for process in processes)


def session(stages, seconds, patience, foreign):
    """[(stage, metrics, why they do not count or None)] of all seats."""
    bursts = {stage: [] for stage in stages}  # all
    passes = {stage: [] for stage in stages}  # of each pass the last try
    quiet = None
    why = {}
    try:
        for stage in stages:
            stage.up()
            bursts[stage] = stage.warm()
        quiet = wait_quiet(patience) if patience else None
        for number in range(max(1, round(seconds / BURST))):
            for stage in stages if number % 2 == 0 else stages[::-1]:
                for _ in range(TRIES):
                    burst = stage.burst()
                    bursts[stage].append(burst)
                    if burst["foreign"] < foreign:
                        break
                passes[stage].append(burst)
        for stage in stages:
            if not all(process.lives() for process in stage.proxies):
                why[stage] = f"{stage.seat.name} ended: {stage.proxies[0].complaint()}"
    except Failure as failure:
        why = dict.fromkeys(stages, str(failure))
    finally:
        seen = {stage: stage.down() for stage in stages}
    results = []
    for stage in stages:
        metrics = summary(bursts[stage], passes[stage], foreign)
        metrics |= {"quiet": quiet, "server": seen[stage], "refused": stage.refused}
        failed = why.get(stage) or check_counts(stage, metrics, seen[stage]) or \
            check_quiet(passes[stage], foreign)
        results.append((stage, metrics, failed))
        stage.folder.remove()
    return results


TOTALS = ("requests", "measured", "errors", "late", "dials", "bytes")
MEDIANS = ("cpu", "all", "rate", "p50_us", "p99_us", "busy", "mb_s", "foreign")


def summary(bursts, passes, foreign):
    """Totals of all bursts, the warm-up too; medians of the passes that nobody disturbed."""
    metrics = {key: sum(burst[key] for burst in bursts) for key in TOTALS}
    good = [burst for burst in passes if burst["foreign"] < foreign]
    for key in MEDIANS:
        values = [burst[key] for burst in good if key in burst]
        if values:
            metrics[key] = statistics.median(values)
    metrics["passes"] = {
        "foreign": [round(burst["foreign"], 3) for burst in passes],
        "cpu": [round(burst["cpu"], 4) if burst in good and "cpu" in burst else None
                for burst in passes],
    }
    return metrics


def check_quiet(passes, foreign):
    good = sum(burst["foreign"] < foreign for burst in passes)
    if good * 2 < len(passes):
        return f"others disturbed {len(passes) - good} of {len(passes)} passes"
    return None


def check_counts(stage, metrics, server):
    """Everything that was asked was answered, arrived at the server, and stands in the log."""
    work, asked = stage.workload, metrics["requests"] + metrics["errors"]
    if metrics["errors"] or not metrics["measured"]:
        return f"{metrics['errors']} errors"
    if server.get("requests") != asked:
        return f"the server saw {server.get('requests')} of {asked} requests"
    if work.unit == "GB" and abs(server["bytes"] / metrics["bytes"] - 1) > 0.001:
        return f"the server sent {server['bytes']} bytes, {metrics['bytes']} arrived"
    if work.fresh and metrics["dials"] != metrics["requests"]:
        return f"{metrics['dials']} connections for {metrics['requests']} requests"
    lines = stage.seat.lines(stage)
    metrics["lines"] = lines
    if lines is not None and lines != asked + stage.refused:
        return f"{lines} lines in the log for {asked + stage.refused} requests"
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


def memory(stage):
    """(metrics, why they do not count or None): bytes that stay with each idle connection, after
    one request on it."""
    metrics, why = {}, None
    try:
        stage.up()
        measure_memory(stage, metrics)
    except Failure as failure:
        why = str(failure)
    finally:
        stage.down()
    stage.folder.remove()
    return metrics, why


def measure_memory(stage, metrics):
    proxies = stage.proxies
    began, maps = resident(proxies)
    metrics |= {"start": began - maps, "maps": maps}
    if stage.generate("-n", "100", "-l", "13")["errors"]:  # what is there from the first one on
        raise Failure(f"{stage.seat.name} does not answer")
    metrics["base"] = resident(proxies)[0] - maps
    holders, held, slab_before = [], 0, slab()
    try:
        for name, want in zip(HELD, held_counts()):
            holders.append(stage.hold(want - held))
            held = want
            time.sleep(0.3)
            now, now_maps = resident(proxies)
            metrics[f"at_{name}"] = (now - now_maps - metrics["base"]) / held
        metrics["kernel"] = (slab() - slab_before) / held
    finally:
        for holder in holders:
            holder.close()
    metrics["held"] = held
