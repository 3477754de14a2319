# SPDX-License-Identifier: Apache-2.0
"""Where a sample takes place. All of it lies in a mount namespace of the bench's own: network
namespaces, the bpf file system and the work folder go with its last process, however it ends.

  lo   one namespace; client 127.0.0.2, proxies on 127.0.0.1, server 127.0.0.3

  ns   a 10.79.0.11                b 10.79.0.12          client in a, server in b
          |                           |
       ---+------------ br0 ----------+---  the node     shunt captures; the others listen in a,
                                                         on 127.0.0.1
"""
import glob
import os
import shutil
import subprocess
import sys
import tempfile


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


class Folder:
    """Where one seat writes, in memory. `pins`: the bpf file system."""

    def __init__(self, path, pins):
        self.path = path
        self.pins = pins

    def file(self, name):
        return os.path.join(self.path, name)

    def write(self, name, text):
        path = self.file(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        return path

    def remove(self):
        shutil.rmtree(self.path)


class Lab:
    """All folders, and the end of them."""

    def __init__(self):
        sweep()
        self.path = f"{tempfile.gettempdir()}/shunt-bench-{os.getpid()}"
        os.mkdir(self.path, 0o755)
        os.makedirs("/run/netns", exist_ok=True)
        run("mount", "-t", "tmpfs", "tmpfs", "/run/netns")
        run("mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", self.path)
        self.pins = os.path.join(self.path, "bpf")
        os.mkdir(self.pins)
        run("mount", "-t", "bpf", "bpf", self.pins)

    def folder(self, name):
        path = os.path.join(self.path, name)
        os.mkdir(path)
        return Folder(path, self.pins)

    def close(self):
        subprocess.run(["umount", "-R", self.path], check=False)
        os.rmdir(self.path)


class Place:
    """One form of the bench, for one seat: the proxies beside it have places of their own.
    `client`, `server` and `node` are network namespaces, which may be the same."""

    form = ""
    captures = False  # by shunt; else it listens
    source = None  # the client's own address, if the kernel would choose another
    proxy = "127.0.0.1:9100"
    upstream = ""

    def __init__(self, name):
        self.client = self.server = self.node = f"bench-{name}"
        self.made = []

    def inside(self, namespace, *command):
        run("nsenter", f"--net=/run/netns/{namespace}", *command)

    def up(self):
        for name in dict.fromkeys((self.node, self.client, self.server)):
            run("ip", "netns", "add", name)
            self.made.append(name)
            self.inside(name, "ip", "link", "set", "lo", "up")
            self.inside(name, "sysctl", "-qw", "net.core.somaxconn=16384",
                        "net.ipv4.tcp_max_syn_backlog=16384",
                        "net.ipv4.ip_local_port_range=10000 65535")
        self.join()

    def join(self):
        """Ways between the namespaces."""

    def down(self):
        while self.made:
            run("ip", "netns", "del", self.made.pop())

    @staticmethod
    def listens(namespace, address):
        out = subprocess.run(["nsenter", f"--net=/run/netns/{namespace}", "ss", "-Hltn", "src",
                              address], check=True, capture_output=True).stdout
        return bool(out.strip())


class Loopback(Place):
    form = "lo"
    source = "127.0.0.2"
    upstream = "127.0.0.3:9000"


class Namespaces(Place):
    form = "ns"
    captures = True
    upstream = "10.79.0.12:9000"

    def __init__(self, name):
        super().__init__(name)
        self.client, self.server = f"bench-{name}-a", f"bench-{name}-b"

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


PLACES = {place.form: place for place in (Loopback, Namespaces)}
