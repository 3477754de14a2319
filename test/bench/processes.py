# SPDX-License-Identifier: Apache-2.0
"""Processes of a sample: started where they are to run, ended by their pid, and what the kernel
says they have used."""
import os
import select
import signal
import subprocess
import time

NICE = -10  # for all that is measured: other people's work weighs less
STOPPED = 15  # seconds that an end may take
TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


class Failure(Exception):
    """A sample that cannot be taken, in words for people."""


class Process:
    """A command in a network namespace, on one core, in a session of its own: whatever it
    starts is counted with it. It dies with the bench."""

    def __init__(self, namespace, core, command, out=None, err=None, stdin=subprocess.DEVNULL):
        self.name = os.path.basename(command[0])
        self.err = err
        self.members = None  # its session's processes, once it has started them all
        where = ["nsenter", f"--net=/run/netns/{namespace}", "setpriv", "--pdeathsig", "KILL"]
        how = ["taskset", "-c", str(core), "nice", "-n", str(NICE)]
        with open(out or os.devnull, "ab") as stdout, open(err or os.devnull, "ab") as stderr:
            self.popen = subprocess.Popen(where + how + command, stdin=stdin, start_new_session=True,
                                          stdout=subprocess.PIPE if out is None else stdout,
                                          stderr=stderr)
        try:  # sessions are scheduled as groups, whose weight is not their processes'
            with open(f"/proc/{self.popen.pid}/autogroup", "w", encoding="ascii") as f:
                f.write(str(NICE))
        except OSError:
            pass

    def pids(self):
        """All processes of its session."""
        found = []
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            try:
                with open(f"/proc/{entry}/stat", encoding="ascii", errors="replace") as f:
                    fields = f.read().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == self.popen.pid:
                found.append(int(entry))
        return found

    def cpu_ns(self):
        """CPU of all its threads. The scheduler's own sum is exact; where the ticks say much
        more, it does not count what they do, and they are taken."""
        exact = ticks = 0
        for pid in self.members or self.pids():
            try:
                for thread in os.listdir(f"/proc/{pid}/task"):
                    with open(f"/proc/{pid}/task/{thread}/schedstat", encoding="ascii") as f:
                        exact += int(f.read().split()[0])
                with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
                    fields = f.read().rpartition(")")[2].split()
                ticks += (int(fields[11]) + int(fields[12])) * TICK_NS
            except OSError:
                pass  # it ended meanwhile
        return ticks if ticks > exact * 1.2 + 20 * TICK_NS else exact

    def memory(self):
        """(resident bytes, bytes of these that are maps of kernel programs)."""
        resident = maps = 0
        for pid in self.pids():
            is_map = False
            try:
                with open(f"/proc/{pid}/smaps", encoding="ascii", errors="replace") as f:
                    for line in f:
                        if "-" in line.split(" ", 1)[0]:
                            is_map = "bpf-map" in line
                        elif line.startswith("Rss:"):
                            resident += kilobytes(line)
                            maps += kilobytes(line) * is_map
            except OSError:
                pass  # it ended meanwhile
        return resident, maps

    def ask(self, line, patience):
        """Writes a line to it, and returns the line that it answers."""
        self.popen.stdin.write(f"{line}\n".encode())
        self.popen.stdin.flush()
        if not select.select([self.popen.stdout], [], [], patience)[0]:
            raise Failure(f"{self.name} says nothing")
        return self.popen.stdout.readline().decode()

    def close(self):
        """Ends what lives as long as its standard input."""
        self.popen.stdin.close()
        self.popen.stdin = None  # communicate() would use it
        self.stop()

    def lives(self):
        return self.popen.poll() is None

    def output(self, patience):
        """Waits for its end: what it wrote."""
        try:
            return self.popen.communicate(timeout=patience)[0].decode()
        except subprocess.TimeoutExpired:
            self.stop(signal.SIGKILL)
            raise Failure(f"{self.name} did not end in {patience:.0f} s") from None

    def stop(self, how=signal.SIGTERM):
        """Ends it; by force if it does not. Returns what it wrote to a pipe."""
        others = self.pids()
        written = b""
        if self.lives():
            self.popen.send_signal(how)
        try:
            written = self.popen.communicate(timeout=STOPPED)[0] or b""
        except subprocess.TimeoutExpired:
            pass
        for pid in set(others) & set(self.pids()):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.popen.wait()
        return written.decode()

    def complaint(self):
        """The end of what it wrote to standard error."""
        if self.err is None or not os.path.exists(self.err):
            return ""
        with open(self.err, encoding="utf-8", errors="replace") as f:
            return " ".join(f.read().split())[-400:]


def kilobytes(line):
    return int(line.split()[1]) * 1024


def wait_until(condition, what, patience=10.0):
    end = time.monotonic() + patience
    while not condition():
        if time.monotonic() > end:
            raise Failure(what)
        time.sleep(0.01)


class Busy:
    """What all cores together have been doing since it was made."""

    def __init__(self):
        self.at = time.monotonic()
        self.busy = self.read()

    @staticmethod
    def read():
        with open("/proc/stat", encoding="ascii") as f:
            ticks = [int(x) for x in f.readline().split()[1:9]]
        return (sum(ticks) - ticks[3] - ticks[4]) * TICK_NS  # all but idle and iowait; steal too

    def since(self):
        """(seconds, CPU in ns)"""
        return time.monotonic() - self.at, self.read() - self.busy


def settle(processes, patience=5.0):
    """Until they do nothing: what they do once, at their start, belongs to no sample."""
    end = time.monotonic() + patience
    before = None
    while time.monotonic() < end:
        now = sum(process.cpu_ns() for process in processes)
        if before is not None and now - before < 500_000:
            break
        before = now
        time.sleep(0.1)
    for process in processes:
        process.members = process.pids()


def wait_quiet(patience):
    """Until the machine does next to nothing for a quarter of a second. False if it never did."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        busy = Busy()
        time.sleep(0.25)
        seconds, ns = busy.since()
        if ns / 1e9 / seconds < 0.15:
            return True
    return False
