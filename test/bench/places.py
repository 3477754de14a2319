# SPDX-License-Identifier: Apache-2.0
"""Where a sample takes place. All of it lies in a mount namespace of the bench's own: network
namespaces, the bpf file system and the work folder go with its last process, however it ends.

  lo   one namespace; client 127.0.0.2, proxies on 127.0.0.1, server 127.0.0.3

  ns   bench-a 10.79.0.11          bench-b 10.79.0.12        client in a, server in b
          |                           |
       ---+------------ br0 ----------+---  bench-node       shunt captures; the others listen
                                                             in a, on 127.0.0.1
"""
import glob
import os
import shutil
import subprocess
import sys
import tempfile

TIME_WAITS_MAX = 6000  # ends of connections that still hold a port


def isolate():
    """Starts this program again in a mount namespace of its own, once."""
    if os.environ.get("SHUNT_BENCH_ISOLATED") == str(os.getpid()):
        return
    if os.geteuid() != 0:
        sys.exit(f"{os.path.basename(sys.argv[0])}: makes network namespaces: run it as root")
    os.environ["SHUNT_BENCH_ISOLATED"] = str(os.getpid())  # exec keeps the pid
    os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", sys.executable,
                          *sys.argv])


def run(*command):
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def cgroup_root():
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        return next(line.split()[4] for line in f if " - cgroup2 " in line)


def sweep():
    """What a bench left that was killed: an empty folder and a cgroup, named by its process."""
    for path in glob.glob(f"{tempfile.gettempdir()}/shunt-bench-*") + \
            glob.glob(f"{cgroup_root()}/shunt-bench-*"):
        if not os.path.exists("/proc/" + path.rpartition("-")[2]):
            os.rmdir(path)


class Lab:
    """The work folder, in memory."""

    def __init__(self):
        sweep()
        self.path = f"{tempfile.gettempdir()}/shunt-bench-{os.getpid()}"
        os.mkdir(self.path, 0o755)
        os.makedirs("/run/netns", exist_ok=True)
        run("mount", "-t", "tmpfs", "tmpfs", "/run/netns")
        run("mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", self.path)
        os.mkdir(self.file("bpf"))
        run("mount", "-t", "bpf", "bpf", self.file("bpf"))

    def file(self, name):
        return os.path.join(self.path, name)

    def write(self, name, text):
        path = self.file(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        return path

    def clear(self):
        """Everything but the mounts, between two samples: logs are large."""
        for name in os.listdir(self.path):
            if name == "bpf":
                continue
            path = self.file(name)
            if os.path.isdir(path):
                shutil.rmtree(path)
            else:
                os.remove(path)

    def close(self):
        subprocess.run(["umount", "-R", self.path], check=False)
        os.rmdir(self.path)


class Place:
    """One form of the bench. `client`, `server` and `node` are network namespaces."""

    source = None  # the client's own address, if the kernel would choose another
    proxy = "127.0.0.1:9100"
    namespaces: tuple = ()

    def inside(self, namespace, *command):
        run("nsenter", f"--net=/run/netns/{namespace}", *command)

    def up(self):
        for name in self.namespaces:
            run("ip", "netns", "add", name)
            self.inside(name, "ip", "link", "set", "lo", "up")
            self.inside(name, "sysctl", "-qw", "net.core.somaxconn=16384",
                        "net.ipv4.tcp_max_syn_backlog=16384",
                        "net.ipv4.ip_local_port_range=10000 65535")
        self.join()

    def join(self):
        """Ways between the namespaces."""

    def down(self):
        for name in self.namespaces:
            run("ip", "netns", "del", name)

    def refresh(self):
        """New namespaces where the ends of connections would be in the way of new ones."""
        if any(self.time_waits(name) > TIME_WAITS_MAX for name in self.namespaces):
            self.down()
            self.up()

    @staticmethod
    def time_waits(namespace):
        text = subprocess.run(["nsenter", f"--net=/run/netns/{namespace}", "cat",
                               "/proc/net/sockstat"], check=True, capture_output=True).stdout
        fields = text.decode().partition("TCP:")[2].split()
        return int(fields[fields.index("tw") + 1])

    @staticmethod
    def listens(namespace, address):
        out = subprocess.run(["nsenter", f"--net=/run/netns/{namespace}", "ss", "-Hltn", "src",
                              address], check=True, capture_output=True).stdout
        return bool(out.strip())


class Loopback(Place):
    form = "lo"
    namespaces = ("bench-lo",)
    client = server = node = "bench-lo"
    source = "127.0.0.2"
    upstream = "127.0.0.3:9000"
    captures = False


class Namespaces(Place):
    form = "ns"
    namespaces = ("bench-node", "bench-a", "bench-b")
    node, client, server = namespaces
    upstream = "10.79.0.12:9000"
    captures = True

    def join(self):
        self.inside(self.node, "ip", "link", "add", "br0", "type", "bridge")
        self.inside(self.node, "ip", "addr", "add", "10.79.0.1/24", "dev", "br0")
        self.inside(self.node, "ip", "link", "set", "br0", "up")
        for name, number in ((self.client, 11), (self.server, 12)):
            self.inside(self.node, "ip", "link", "add", f"v{number}", "type", "veth", "peer",
                        "name", "eth0", "netns", name)
            self.inside(self.node, "ip", "link", "set", f"v{number}", "master", "br0", "up")
            self.inside(name, "ip", "addr", "add", f"10.79.0.{number}/24", "dev", "eth0")
            self.inside(name, "ip", "link", "set", "eth0", "up")
            self.inside(name, "ip", "route", "add", "default", "via", "10.79.0.1")


PLACES = {place.form: place for place in (Loopback(), Namespaces())}
