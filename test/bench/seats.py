# SPDX-License-Identifier: Apache-2.0
"""Who is measured: one entry each, in the order of the table. A seat writes its configuration,
starts its processes, and says where the load has to go."""
import glob
import os
import signal
import subprocess

from places import cgroup_root
from processes import Failure, Process, wait_until

RULE = "^/[0-9]*$"
HTTP_RULE = '{method: GET, path: "/[0-9]*"}'
SHUNTD = os.path.join(os.environ.get("B", "build"), "shuntd")


class Seat:
    """What all have in common. `stage`: the place, the folder, the workload and the cores."""

    title = ""
    floor = False  # no proxy of HTTP: refuses nothing, logs nothing
    core = None  # of the upstream, where it is what is measured
    log = None  # file of its folder with a line for each request
    request_mark = b"\n"  # what a request's line has and no other

    def takes(self, workload):
        """Is this seat to sit at that workload?"""
        return bool(workload.load)

    def start(self, stage):
        """Starts it; returns its processes, that are to be stopped by stop()."""
        raise NotImplementedError

    def stop(self, stage, processes):
        for process in processes:
            process.stop()

    def target(self, stage):
        return stage.place.proxy

    def version(self):
        return ""

    def launch(self, stage, namespace, command, out=None):
        """One process, listening."""
        address = self.target(stage)
        if stage.place.listens(stage.place.client, address):
            raise Failure(f"somebody listens on {address} already")
        process = Process(namespace, stage.proxy_core, stage.wrap + command,
                          out=out or os.devnull, err=stage.folder.file(f"{self.name}.err"))
        try:
            wait_until(lambda: not process.lives() or
                       stage.place.listens(stage.place.client, address),
                       f"{self.name} does not listen", patience=30)
            if not process.lives():
                raise Failure(f"{self.name} ended: {process.complaint()}")
        except Failure:
            process.stop()
            raise
        return process

    def lines(self, stage):
        """How many requests its log has; None where none is kept."""
        path = stage.folder.file(self.log) if self.log else None
        if path is None or not (stage.workload.http and stage.workload.log):
            return None
        count, rest = 0, b""
        with open(path, "rb") as f:
            while chunk := f.read(1 << 20):
                chunk = rest + chunk
                whole, _, rest = chunk.rpartition(b"\n")
                count += (whole + b"\n").count(self.request_mark) if whole else 0
        return count


class Direct(Seat):
    """No proxy: the load and its server alone."""

    title = "direct"
    floor = True

    def __init__(self, core=None):
        self.core = core
        if core is not None:
            self.title = "direct, server alone on its core"

    def takes(self, workload):
        return super().takes(workload) and (self.core is None or workload.fresh)

    def start(self, stage):
        return []

    def target(self, stage):
        return stage.place.upstream


class Relay(Seat):
    """The floor: two sockets, no thought."""

    title = "relay"
    floor = True

    def takes(self, workload):
        return True

    def start(self, stage):
        return [self.launch(stage, stage.place.client,
                            [stage.tool("relay"), self.target(stage), stage.place.upstream])]


class Haproxy(Seat):
    log = "haproxy.json"

    def __init__(self, reuse="always"):
        self.reuse = reuse
        self.title = "HAProxy" if reuse == "always" else f"HAProxy, http-reuse {reuse}"

    def takes(self, workload):
        return self.reuse == "always" or (workload.fresh and workload.http)

    def start(self, stage):
        path = stage.folder.write("haproxy.cfg", self.configuration(stage))
        namespace = stage.place.node if stage.place.captures else stage.place.client
        return [self.launch(stage, namespace, ["haproxy", "-db", "-f", path],
                            out=stage.folder.file(self.log))]

    def configuration(self, stage):
        w = stage.workload
        limit = 9800 if w.load else 12000
        inside = f" namespace {stage.place.client}" if stage.place.captures else ""
        common = f"""global
  nbthread 1
  maxconn {limit}
  no strict-limits
  log stdout len 4096 format raw local0
defaults
  mode {'http' if w.http else 'tcp'}
  maxconn {limit}
  timeout connect 5s
  timeout client 300s
  timeout server 300s
  timeout http-keep-alive 300s
  option {'http-keep-alive' if w.http else 'tcplog'}
  {f'http-reuse {self.reuse}' if w.http else ''}
"""
        backend = f"""
backend up
  server u {stage.place.upstream} {'pool-max-conn -1' if w.http else ''}{inside}
"""
        return common + self.frontend(stage, inside) + backend

    def frontend(self, stage, inside):
        w = stage.workload
        lines = ["frontend hop", f"bind {self.target(stage)} backlog 4096{inside}"]
        if w.log:
            lines.append("log global")
        if w.log and w.http:
            lines += [
                """log-format '{"start_time":%Ts.%ms,"src.addr":"%ci:%cp","dst.addr":"%si:%sp","""
                """"backend":"%b","method":"%HM","authority":"%[capture.req.hdr(0),json(utf8s)]","""
                """"path":"%[capture.req.uri,json(utf8s)]","protocol":"%HV","status":%ST,"""
                """"request_bytes":%U,"response_bytes":%B,"t_client":%TR,"t_queue":%Tw,"""
                """"t_connect":%Tc,"t_wait":%Tr,"t_total":%Ta,"response_flags":"%tsc"}'""",
                "declare capture request len 64",
                "http-request capture req.hdr(host) id 0",
            ]
        if w.rule:
            lines += ["acl m method GET", f"acl p pathq -m reg {RULE}",
                      "http-request deny deny_status 403 unless m p"]
        return "\n  ".join(lines + ["default_backend up"]) + "\n"

    def version(self):
        out = subprocess.run(["haproxy", "-v"], capture_output=True, check=True).stdout
        return out.decode().split()[2]


class Nginx(Seat):
    title = "nginx"
    log = "nginx.json"

    def start(self, stage):
        path = stage.folder.write("nginx/nginx.conf", self.configuration(stage))
        return [self.launch(stage, stage.place.client,
                            ["nginx", "-p", stage.folder.file("nginx"), "-c", path, "-e",
                             stage.folder.file("nginx.err")])]

    def takes(self, workload):
        return True

    def stop(self, stage, processes):
        for process in processes:
            process.stop(signal.SIGQUIT)  # the last lines of its log are written then

    def configuration(self, stage):
        modules = "/usr/lib/nginx/modules/ngx_stream_module.so"
        return f"""{'' if stage.workload.http else f'load_module {modules};'}
daemon off; user root; worker_processes 1; worker_rlimit_nofile 20000;
pid {stage.folder.file('nginx/pid')};
events {{ worker_connections 20000; accept_mutex off; }}
""" + (self.http(stage) if stage.workload.http else self.stream(stage))

    def http(self, stage):
        w, folder = stage.workload, stage.folder
        log = f"access_log {folder.file(self.log)} rec buffer=64k flush=1s" if w.log else \
            "access_log off"
        where = f"location ~ {RULE}" if w.rule else "location /"
        only = "if ($request_method != GET) { return 403; }" if w.rule else ""
        other = "location / { return 403; }" if w.rule else ""
        temporary = " ".join(f"{kind}_temp_path {folder.file('nginx')}/{kind};" for kind in
                             ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        return f"""http {{
  log_format rec escape=json '{{"start_time":"$msec","src.addr":"$remote_addr:$remote_port",'
    '"dst.addr":"$upstream_addr","backend":"$proxy_host","method":"$request_method",'
    '"authority":"$host","path":"$request_uri","protocol":"$server_protocol",'
    '"status":$status,"request_bytes":$request_length,"response_bytes":$bytes_sent,'
    '"t_connect":"$upstream_connect_time","t_wait":"$upstream_header_time",'
    '"t_recv":"$upstream_response_time","t_total":"$request_time","conn_id":$connection}}';
  {log};
  {temporary}
  server_tokens off; tcp_nodelay on; keepalive_timeout 300s; keepalive_requests 1000000000;
  proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
  proxy_max_temp_file_size 0;
  upstream u {{ server {stage.place.upstream}; keepalive 256;
    keepalive_requests 1000000000; keepalive_timeout 300s; }}
  server {{
    listen {self.target(stage)} backlog=4096;
    {where} {{ {only} proxy_pass http://u; }}
    {other}
  }}
}}
"""

    def stream(self, stage):
        log = f"access_log {stage.folder.file(self.log)} rec buffer=64k flush=1s;" \
            if stage.workload.log else ""
        return f"""stream {{
  log_format rec escape=json '{{"start_time":"$msec","src.addr":"$remote_addr:$remote_port",'
    '"dst.addr":"$upstream_addr","protocol":"$protocol","status":$status,'
    '"bytes_sent":$bytes_received,"bytes_recv":$bytes_sent,'
    '"t_connect":"$upstream_connect_time","t_total":"$session_time","conn_id":$connection}}';
  {log}
  server {{ listen {self.target(stage)} backlog=4096; proxy_pass {stage.place.upstream};
    tcp_nodelay on; proxy_timeout 300s; }}
}}
"""

    def version(self):
        out = subprocess.run(["nginx", "-v"], capture_output=True, check=True).stderr
        return out.decode().strip().rpartition("/")[2]


class Shunt(Seat):
    """The daemon that `make install` installs, with its defaults but for one worker. In the
    form lo by an explicit listener and without kernel programs, else by capture."""

    log = "shunt.json"
    request_mark = b'"type":"request"'

    def __init__(self, title, binary):
        self.title = title
        self.binary = binary

    def takes(self, workload):
        return True

    def target(self, stage):
        return stage.place.upstream if stage.place.captures else stage.place.proxy

    def identity(self):
        return f"bench-{self.name}-{os.getpid()}"

    def start(self, stage):
        folder, run = stage.folder, stage.folder.file("run")
        self.configure(stage)
        command = [self.binary, "--config", folder.file("config"), "--name", self.identity(),
                   "--run-dir", run, "--state-dir", folder.file("state"), "--bpffs", folder.pins]
        if not stage.place.captures:
            return [self.launch(stage, stage.place.node, command)]
        errors = folder.file(f"{self.name}.err")
        process = Process(stage.place.node, stage.proxy_core, command, out=os.devnull, err=errors)
        try:
            wait_until(lambda: not process.lives() or " runs, revision " in process.complaint(),
                       f"{self.name} is not ready")
            if not process.lives():
                raise Failure(f"{self.name} ended: {process.complaint()}")
        except Failure:
            self.stop(stage, [process])
            raise
        return [process]

    def configure(self, stage):
        w, place, folder = stage.workload, stage.place, stage.folder
        port = place.upstream.rpartition(":")[2]
        options = f"workers: 1\naccessLog: {{path: {folder.file(self.log) if w.log else 'off'}}}\n"
        who = 'selectors: ["netns:/run/netns/{}"]'
        client, server = who.format(place.client), who.format(place.server)
        if not place.captures:
            options += "capture: off\nlisteners:\n- {address: 127.0.0.1, port: 9100, " \
                f'workload: bench/server, upstream: "{place.upstream}"}}\n'
            client, server = f"addresses: [{place.source}]", "addresses: [127.0.0.3]"
        http = f"rules: {{http: [{HTTP_RULE if w.rule else '{}'}]}}" if w.http else ""
        folder.write("config/shunt.yaml", options)
        folder.write("config/conf.d/bench.yaml", f"""apiVersion: shunt.dev/v1
kind: Workload
metadata: {{name: client, namespace: bench}}
spec:
  labels: {{app: client}}
  {client}
---
apiVersion: shunt.dev/v1
kind: Workload
metadata: {{name: server, namespace: bench}}
spec:
  labels: {{app: server}}
  {server}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {{name: server, namespace: bench}}
spec:
  endpointSelector: {{matchLabels: {{app: server}}}}
  ingress:
  - fromEndpoints: [{{matchLabels: {{app: client}}}}]
    toPorts:
    - ports: [{{port: "{port}", protocol: TCP}}]
      {http}
""")

    def stop(self, stage, processes):
        super().stop(stage, processes)
        if not stage.place.captures:
            return
        subprocess.run([os.path.join(os.path.dirname(SHUNTD), "shunt"), "--run-dir",
                        stage.folder.file("run"), "--name", self.identity(), "detach", "--bpffs",
                        stage.folder.pins], capture_output=True, check=False)
        for path in glob.glob(f"{cgroup_root()}/shunt-{self.identity()}*"):
            os.rmdir(path)

    def version(self):
        out = subprocess.run([self.binary, "--version"], capture_output=True, check=True).stdout
        return out.decode().split()[1]


SEATS = {
    "direct": Direct(),
    "direct-x": Direct(core=0),
    "relay": Relay(),
    "shunt": Shunt("shunt", SHUNTD),
    "haproxy": Haproxy(),
    "haproxy-never": Haproxy(reuse="never"),
    "nginx": Nginx(),
    # The same once more: what differs between it and shunt is the bench's own doing. OTHER
    # names another binary, to see what a change has done.
    "again": Shunt("shunt again", os.environ.get("OTHER") or SHUNTD),
}
for _name, _seat in SEATS.items():
    _seat.name = _name
