#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Lets the system calls of a running daemon fail, and judges what both ends of its connections get.

usage: faults.py serve SHIM PLAN DAEMON-PID CLIENTS NODE SERVERS LOG ADMIN captured|listeners
                       HTTP STREAM FIRST
       faults.py start SHIM PLAN captured|listeners CLIENTS SERVERS ADDRESS RUN-DIR PINS DETACH-COMMAND SHUNTD...

The shim (shim.c) lies in the daemon; the plan is a file both have mapped. Prints one line per
check, and for each failure what was injected and how to have the same again:
ONLY="FLOW CALL ERROR N" is one case of the systematic part, SEED=N one round of the random one.
ROUNDS=N makes both longer."""
import ctypes
import errno
import json
import mmap
import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from peers import Flows, Servers, Wrong  # noqa: E402

FACTOR = int(os.environ.get("FACTOR", "1"))
ROUNDS = int(os.environ.get("ROUNDS", "1"))
LIMIT = 10 * FACTOR  # seconds that anything may take
SHORT = 1000

# What the threads of the daemon call while they serve; every row of the shim is in one of these.
WORKER = ("accept4 recv send connect so_error socket setsockopt getsockopt getsockname shutdown "
          "epoll_ctl epoll_wait close open uv_epoll_wait malloc calloc realloc strdup").split()
CAPTURED = "bind setns".split()
LOG = "writev fstat open pread read poll close malloc calloc realloc".split()
CONTROL = ("uv_accept4 uv_read uv_write uv_epoll_wait getsockopt fcntl open openat read fstatat "
           "scandirat realpath close malloc calloc realloc strdup getifaddrs setns socket").split()


class Row(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("errors", ctypes.c_int * 12)]


class Plan:
    """struct plan of shim.c."""
    HEAD = struct.Struct("=IiiIII32sIIII128I")
    LINES, LINE = 512, 64

    def __init__(self, shim, path):
        self.rows = {}
        for i, row in enumerate((Row * 256).in_dll(ctypes.CDLL(shim), "fault_rows")):
            if row.name is None:
                break
            self.rows[row.name.decode()] = (i, [e for e in row.errors if e])
        size = self.HEAD.size + self.LINES * self.LINE
        with open(path, "wb") as f:
            f.write(b"\0" * size)
        with open(path, "r+b") as f:
            self.map = mmap.mmap(f.fileno(), size)
        self.nameless = 0

    def arm(self, row, error=0, nth=0, one_in=1, seed=0, thread=""):
        self.nameless = self.slots_to_sweep()
        number = self.rows[row][0] if row else -1
        self.map[:self.HEAD.size] = self.HEAD.pack(
            0, number, error, nth, one_in, seed, thread.encode(), 0, 0, 0, 0, *[0] * 128)
        self.map[0:4] = struct.pack("=I", 1)

    def off(self):
        self.map[0:4] = struct.pack("=I", 0)

    def field(self, number):
        return self.HEAD.unpack(self.map[:self.HEAD.size])[number]

    def injected(self):
        return self.field(8)

    def slots_to_sweep(self):
        return self.nameless + self.field(9)

    def total(self):
        return self.field(10)

    def log(self, most=12):
        n = min(self.injected(), self.LINES)
        lines = [self.map[at:at + self.LINE].split(b"\0")[0].decode()
                 for at in range(self.HEAD.size, self.HEAD.size + n * self.LINE, self.LINE)]
        return lines[:most] + (["... %d in all" % n] if n > most else [])


def error_name(error):
    return "short" if error == SHORT else errno.errorcode[error]


def error_number(name):
    return SHORT if name == "short" else 0 if name == "any" else getattr(errno, name)


class Results:
    def __init__(self):
        self.failed = 0

    def check(self, sentence, problems):
        print(("not ok - %s: %d failures" % (sentence, len(problems))) if problems
              else "ok - %s" % sentence)
        for p in problems[:8]:
            print("#   " + p.replace("\n", "\n#     "))
        sys.stdout.flush()
        self.failed += bool(problems)


# ---- a daemon that serves ----


class Namespace:
    def __init__(self, path):
        self.fd = os.open(path, os.O_RDONLY)

    def enter(self):
        if ctypes.CDLL(None, use_errno=True).setns(self.fd, 0) < 0:
            raise OSError(ctypes.get_errno(), "setns")

    def socket(self, *args):
        """One that lives there; this thread comes back."""
        home = Namespace("/proc/thread-self/ns/net")
        self.enter()
        try:
            return socket.socket(*args)
        finally:
            home.enter()
            os.close(home.fd)

    def listener(self, port):
        s = self.socket(socket.AF_INET, socket.SOCK_STREAM)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("0.0.0.0", port))
        s.listen(256)
        return s


class Daemon:
    """What is asked of the daemon itself: it lives, what it holds, what it wrote."""

    def __init__(self, plan, pid, node, access_log, admin):
        self.plan, self.pid, self.node, self.admin = plan, pid, Namespace(node), admin
        self.log = open(access_log, "rb")
        self.log.seek(0, os.SEEK_END)
        self.log_rest = b""
        self.records = []
        self.dropped = self.lines = 0
        self.lines_may_lack = False
        self.base = None
        self.slack = 0

    def alive(self):
        try:
            with open("/proc/%d/stat" % self.pid) as f:
                return f.read().rsplit(")", 1)[1].split()[0] != "Z"
        except OSError:
            return False

    def need_alive(self):
        if not self.alive():
            raise Wrong("the daemon has ended")

    def descriptors(self):
        return len(os.listdir("/proc/%d/fd" % self.pid))

    def ask(self, sock, address, request):
        """(status, body) or (0, what there is)."""
        sock.settimeout(LIMIT)
        got = b""
        try:
            sock.connect(address)
            sock.sendall(request)
            while True:
                part = sock.recv(65536)
                if not part:
                    break
                got += part
                head, mark, body = got.partition(b"\r\n\r\n")
                length = re.search(rb"\r\nContent-Length: (\d+)", head, re.I)
                if mark and length and len(body) >= int(length[1]):
                    return int(head.split()[1]), body
        except TimeoutError:
            raise Wrong("the control thread does not answer")
        except OSError:
            pass
        finally:
            sock.close()
        return 0, got

    def admin_ask(self, method, path):
        s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        return self.ask(s, self.admin, b"%s %s HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n" %
                        (method.encode(), path.encode()))

    def scrape(self):
        s = self.node.socket(socket.AF_INET, socket.SOCK_STREAM)
        return self.ask(s, ("127.0.0.1", 15020), b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")

    def metrics(self):
        status, body = self.scrape()
        if status == 0:  # libuv may still be turning away all who wait, after an EMFILE
            status, body = self.scrape()
        if status != 200:
            raise Wrong("metrics: status %d" % status)
        return {name.decode(): float(value) for name, value in
                (line.rsplit(b" ", 1) for line in body.splitlines() if not line.startswith(b"#"))}

    def wait(self, what, condition):
        until = time.monotonic() + LIMIT
        while True:
            got = condition()
            if got is True:
                return
            self.need_alive()
            if time.monotonic() > until:
                raise Wrong("%s: %s" % (what, got))
            time.sleep(0.01)

    def read_log(self):
        lines = (self.log_rest + self.log.read()).split(b"\n")
        self.log_rest = lines.pop()
        for line in lines:
            try:
                self.records.append(json.loads(line))
                self.lines += 1
            except ValueError:
                if not self.lines_may_lack:
                    raise Wrong("a line of the access log is broken: %r" % line[:80])

    def refusals_are_recorded(self, wanted):
        """Every status of the daemon's own has a record that says why."""
        def look():
            self.read_log()
            for r in self.records:
                if r.get("reason", "none") != "none":
                    wanted.discard((r.get("path"), r.get("status")))
                    wanted.discard((r.get("authority"), r.get("status")))
            self.records.clear()
            return True if not wanted else "no record of %s" % sorted(wanted)[:3]
        if wanted and not self.lines_may_lack:
            self.wait("the access log", look)
        self.read_log()
        self.records.clear()

    def idle(self):
        """Nothing is open, nothing is held, nobody spins."""
        def free():
            m = self.metrics()
            for name, most in (("shunt_connections", 0),
                               ("shunt_egress_slots_used", self.plan.slots_to_sweep())):
                if m[name] > most:
                    return "%s is %d" % (name, m[name])
            return True
        self.wait("connections", free)
        if self.base is None:
            self.base = self.descriptors()
        self.wait("descriptors", lambda: self.descriptors() <= self.base + self.slack or
                  "%d of them, at first %d" % (self.descriptors(), self.base))
        dropped = self.metrics()["shunt_log_records_dropped_total"]
        if dropped > self.dropped and not self.lines_may_lack:
            raise Wrong("%d records were dropped" % (dropped - self.dropped))
        self.dropped = dropped
        before = self.plan.total()
        time.sleep(0.15)
        if self.plan.total() - before > 500:
            raise Wrong("%d calls by an idle daemon" % (self.plan.total() - before))


class Run:
    def __init__(self, plan, daemon, flows, servers, captured):
        self.plan, self.daemon, self.flows, self.servers = plan, daemon, flows, servers
        self.thread = "shunt-worker shunt-netns"
        self.rows = [r for r in WORKER + (CAPTURED if captured else []) if r in plan.rows]
        # With every failure each of its calls knows; the other flows take them in turn.
        self.every_error = Flows.NAMES if ROUNDS > 1 else [] if captured else [
            "get_small", "post_chunked", "stream_echo"]
        self.problems = []
        self.cases = self.hits = 0

    def one(self, name):
        """A flow, and both of its ends."""
        result = self.flows.run(name)
        self.servers.quiet()
        self.daemon.need_alive()
        return result

    def well(self, names=Flows.NAMES):
        """Without faults everything is whole, and nothing stays behind."""
        self.plan.off()
        for name in names:
            result = self.one(name)
            if result != ("whole"):
                raise Wrong("%s without a fault is %s" % (name, result))
        self.take_refusals()
        self.daemon.idle()

    def take_refusals(self):
        wanted, self.flows.refusals = set(self.flows.refusals), []
        self.daemon.refusals_are_recorded(wanted)

    def case(self, name, row, error, nth):
        """False when the flow makes no nth call."""
        self.plan.arm(row, error, nth, thread=self.thread, seed=nth)
        problem = None
        try:
            result = self.one(name)
            if result != "whole" and self.plan.injected() == 0:
                problem = "without a fault it is %s" % result
        except Wrong as e:
            problem = str(e)
        self.plan.off()
        self.cases += 1
        self.hits += self.plan.injected() > 0
        if problem:
            self.problem('ONLY="%s %s %s %d"' % (name, row, error_name(error), nth), problem)
        return self.plan.injected() > 0

    def problem(self, how, what):
        self.problems.append("\n".join(["%s: %s" % (how, what)] + self.plan.log()))
        if not self.daemon.alive():
            raise SystemExit(self.report("the daemon is alive"))
        if len(self.problems) == 6:
            raise SystemExit(self.report("fewer than six failures"))

    def settle(self, how):
        try:
            self.well()
        except Wrong as e:
            self.problem(how, "afterwards: %s" % e)
            self.daemon.base = None

    def report(self, sentence):
        results.check("%s (%d cases, %d with a fault)" % (sentence, self.cases, self.hits),
                      self.problems)
        self.problems, self.cases, self.hits = [], 0, 0
        return 1

    # -- every call of every flow fails once --

    def numbers(self):
        """1, 2, 3, ... with growing steps in the short form."""
        n = 1
        while True:
            yield n
            n += 1 if ROUNDS > 1 and n < 200 else max(1, n // 4)

    def flow(self, name):
        for row in self.rows:
            errors = self.plan.rows[row][1]
            for n in self.numbers():
                wanted = errors if name in self.every_error else [errors[(n + len(name)) % len(errors)]]
                if not any([self.case(name, row, e, n) for e in wanted]):
                    break
        self.settle('ONLY="%s"' % name)

    def systematic(self):
        only = os.environ.get("ONLY", "").split()
        if len(only) == 4:
            self.case(only[0], only[1], error_number(only[2]), int(only[3]))
            self.settle("ONLY")
        for name in Flows.NAMES:
            if len(only) == 4 or (only and only[0] != name):
                continue
            self.flow(name)
        self.report("every call of a flow fails once: each end is whole or an abort that can be seen")

    # -- many at once, by chance --

    def client(self, seed, n):
        dice = random.Random(seed)
        for _ in range(n):
            if self.stop:
                return
            try:
                self.flows.run(dice.choice(Flows.NAMES))
            except Wrong as e:
                self.stop = str(e)

    def random_round(self, seed, one_in, each):
        self.stop = None
        self.plan.arm(None, 0, 0, one_in, seed, self.thread)
        clients = [threading.Thread(target=self.client, args=(seed * 100 + i, each)) for i in range(8)]
        for c in clients:
            c.start()
        for c in clients:
            c.join()
        self.plan.off()
        self.cases += 8 * each
        self.hits += self.plan.injected()
        try:
            self.servers.quiet()
            if self.stop:
                raise Wrong(self.stop)
        except Wrong as e:
            self.problem("SEED=%d" % seed, str(e))
        self.settle("SEED=%d" % seed)

    def by_chance(self):
        seed = os.environ.get("SEED")
        seeds = [int(seed)] if seed else range(1, 7 * ROUNDS + 1)
        for s in seeds:
            self.random_round(s, (1000, 200, 50, 20, 8, 400, 100)[s % 7], 40 * min(ROUNDS, 10))
        self.report("many flows at once with faults by chance: whole, or an abort that can be seen")

    # -- the log thread --

    def log_case(self, row, error, nth):
        """Opened anew, so that every call of the thread comes by."""
        self.plan.arm(row, error, nth, thread="shunt-log", seed=nth)
        os.kill(self.daemon.pid, signal.SIGUSR1)
        for _ in range(nth):
            self.one("get_small")
            self.one("refused")
        until = time.monotonic() + 0.05  # it writes when it likes
        while self.plan.injected() == 0 and time.monotonic() < until:
            time.sleep(0.001)
        self.plan.off()
        self.cases += 1
        self.hits += self.plan.injected() > 0
        return self.plan.injected() > 0

    def log_thread(self):
        """Its lines may lack, but then they are counted."""
        self.settle("the log thread")
        self.daemon.lines_may_lack = True
        before, asked, self.daemon.lines = self.daemon.dropped, self.flows.count, 0
        try:
            for row in LOG:
                for error in self.plan.rows[row][1]:
                    for nth in (1, 2, 3):
                        if not self.log_case(row, error, nth):
                            break
            self.plan.arm(None, 0, 0, 3, 1, "shunt-log")
            for _ in range(50):
                self.one("get_small")
            self.plan.off()
            self.hits += self.plan.injected()
            asked = 2 * (self.flows.count - asked)  # a request's and its connection's
            self.daemon.idle()
            self.daemon.wait("lines", lambda: self.daemon.read_log() or
                             self.daemon.lines + self.daemon.dropped - before >= asked or
                             "%d records, %d lines, %d are said to be lost" %
                             (asked, self.daemon.lines, self.daemon.dropped - before))
        except Wrong as e:
            self.problem("the log thread", str(e))
        self.daemon.records.clear()
        self.flows.refusals = []
        self.daemon.lines_may_lack = False
        os.kill(self.daemon.pid, signal.SIGUSR1)
        self.settle("the log thread")
        self.report("an access log that cannot be written loses lines and counts them, no more")

    # -- the control thread --

    def revision(self):
        return self.daemon.metrics()["shunt_policy_revision"]

    def control_case(self, what, ask, row, error, nth):
        before = self.revision()
        self.plan.arm(row, error, nth, thread="shuntd shunt-netns", seed=nth)
        try:
            status, body = ask()
            self.plan.off()
            self.daemon.need_alive()
            if what == "reload":
                self.reloaded(status, body, self.revision() - before)
            problem = None
        except Wrong as e:
            problem = str(e)
        self.plan.off()
        self.cases += 1
        hit = self.plan.injected() > 0
        self.hits += hit
        if problem:
            self.problem("%s %s %s %d" % (what, row, error_name(error), nth), problem)
        return hit

    def reloaded(self, status, body, revisions):
        """The documents are the same ones: whichever revision it is, it judges alike."""
        done = status == 200 and json.loads(body)["ok"]
        if revisions not in ((1,) if done else (0, 1)):
            raise Wrong("%r, and the revision is %d further" % (body, revisions))
        for name in ("get_small", "refused", "stream_echo"):
            if self.one(name) != "whole":
                raise Wrong("after a reload (%r) %s is not as before" % (body, name))

    def control_thread(self):
        asks = {"status": lambda: self.daemon.admin_ask("GET", "/status"),
                "metrics": self.daemon.scrape,
                "reload": lambda: self.daemon.admin_ask("POST", "/reload"),
                "observe": lambda: self.daemon.admin_ask("GET", "/observe?last=3")}
        for what, ask in asks.items():
            for row in CONTROL:
                for nth in self.numbers():
                    errors = self.plan.rows[row][1]
                    if not any([self.control_case(what, ask, row, e, nth) for e in
                                (errors if nth < 3 else [errors[nth % len(errors)]])]):
                        break
            self.settle(what)
        status, _ = self.daemon.admin_ask("POST", "/reload")
        if status != 200:
            self.problems.append("a reload without a fault: status %d" % status)
        self.settle("reload")
        self.report("the control thread answers, or closes; a reload that fails changes nothing")


def serve(shim, plan_path, pid, clients, node, server_netns, access_log, admin, captured, *where):
    plan = Plan(shim, plan_path)
    Namespace(clients).enter()  # and every thread that is begun from here on
    addresses = [(a.rsplit(":", 1)[0], int(a.rsplit(":", 1)[1])) for a in where]
    servers = Servers(Namespace(server_netns).listener, 80, 7000, 7001, LIMIT)
    flows = Flows(*addresses, servers, LIMIT)
    daemon = Daemon(plan, int(pid), node, access_log, admin)
    if captured == "captured":
        daemon.slack = 8  # sockets made in advance come and go
    run = Run(plan, daemon, flows, servers, captured == "captured")
    flows.large = 3000000
    try:
        run.well()
        run.well()
    except Wrong as e:
        run.problems.append(str(e))
    run.report("without a fault every flow is whole")
    flows.large = 300000
    parts = os.environ.get("PARTS", "systematic by_chance log_thread control_thread").split()
    for part in parts:
        if part != "starts":
            getattr(run, part)()


# ---- a daemon that starts ----

START = ("socket setsockopt bind listen getsockopt epoll_create1 epoll_ctl open openat read fstat "
         "fstatat scandirat realpath mkdir mkdirat renameat fsync flock lstat chmod fchmod close "
         "eventfd pipe2 fork getifaddrs setns pthread_create malloc calloc realloc strdup "
         "aligned_alloc uv_epoll_create1 uv_eventfd uv_socket uv_bind uv_listen bpf").split()


START_CAPTURED = "bpf setns epoll_ctl lstat uv_listen".split()  # of these starts in the short form


class Start:
    def __init__(self, plan, clients, address, run_dir, pins, detach, command):
        self.plan, self.clients, self.address = plan, clients, address
        self.run_dir, self.pins, self.detach, self.command = run_dir, pins, detach, command
        self.said = b""
        self.status = None

    def follow(self, process):
        for line in process.stderr:
            self.said += line
        self.status = process.wait()

    def until(self, what, condition):
        until = time.monotonic() + LIMIT
        while not condition():
            if time.monotonic() > until:
                raise Wrong("%s: it hangs" % what)
            time.sleep(0.002)

    def ask(self, path):
        """The status; 0 when there is none."""
        s = self.clients.socket(socket.AF_INET, socket.SOCK_STREAM)
        s.settimeout(LIMIT)
        try:
            s.connect(self.address)
            s.sendall(b"GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % path)
            return int((s.recv(4096).split() + [b"", b"0"])[1])
        except (OSError, ValueError):
            return 0
        finally:
            s.close()

    def behind(self):
        """What a daemon that ended has left, and should not."""
        left = [n for n in os.listdir(self.run_dir) if n == "admin.sock"] \
            if os.path.isdir(self.run_dir) else []
        return left + [os.path.join(d, f) for d, _, files in os.walk(self.pins) for f in files]

    def ended(self):
        if self.status < 0:
            raise Wrong("it was ended by %s" % signal.Signals(-self.status).name)
        if self.status == 0:
            raise Wrong("it did not serve, and its status is 0")
        if b"Sanitizer" in self.said:
            raise Wrong(self.said.decode(errors="replace"))
        if not re.search(rb"<3>|^shuntd: ", self.said, re.M):
            raise Wrong("status %d, and no word why: %r" % (self.status, self.said))
        if self.behind():
            raise Wrong("left behind: %s" % self.behind()[:4])

    def serves(self, process):
        """Not half: what is to be refused is, and what may pass does, if not at once."""
        self.plan.off()
        self.until("refusing", lambda: self.ask(b"/private") == 403)
        if self.ask(b"/f/start/length/10") != 200:
            raise Wrong("it is ready and does not serve")
        process.terminate()
        self.until("stop", lambda: b"stopping on signal" in self.said)
        process.terminate()  # the second one does not wait
        self.until("stop", lambda: self.status is not None)
        if self.status != 0:
            raise Wrong("stopped: status %d\n%s" % (self.status, self.said.decode(errors="replace")))

    def run(self, row, error, nth):
        self.said, self.status = b"", None
        self.plan.arm(row, error, nth)
        process = subprocess.Popen(self.command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
        reader = threading.Thread(target=self.follow, args=(process,))
        reader.start()
        problem = None
        try:
            self.until("start", lambda: self.status is not None or b" runs, revision " in self.said)
            if self.status is None:
                self.serves(process)
            else:
                self.ended()
        except Wrong as e:
            problem = str(e)
        self.plan.off()
        process.kill()
        reader.join()
        if self.behind():
            subprocess.run(self.detach, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return problem


def start(shim, plan_path, captured, clients, server_netns, address, run_dir, pins, detach, *command):
    plan = Plan(shim, plan_path)
    host, port = address.rsplit(":", 1)
    Servers(Namespace(server_netns).listener, 80, 7000, 7001, LIMIT)
    s = Start(plan, Namespace(clients), (host, int(port)), run_dir, pins, detach.split(), command)
    problems, ready, ended = [], 0, 0
    for row in START if ROUNDS > 1 or captured != "captured" else START_CAPTURED:
        n = 1
        while len(problems) < 6:
            error = plan.rows[row][1][n % len(plan.rows[row][1])]
            problem = s.run(row, error, n)
            ready += b" runs, revision " in s.said
            ended += b" runs, revision " not in s.said
            if problem:
                problems.append("\n".join(["start: %s %s %d: %s" % (row, error_name(error), n, problem)]
                                          + plan.log()))
            if plan.injected() == 0:
                break
            n += 1 if ROUNDS > 1 else n
    results.check("a start in which a call fails serves (%d) or ends with a word (%d), and leaves "
                  "nothing" % (ready, ended), problems)


if __name__ == "__main__":
    results = Results()
    {"serve": serve, "start": start}[sys.argv[1]](*sys.argv[2:])
    sys.exit(results.failed > 0)
