"""What stands in for a node of a cluster: files, a containerd, a service manager and an API server of its own.

The node is a directory that is the root's /opt, /etc and /run in a mount namespace; containerd runs in that.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

from gosudacon.wire import dbus
from tests.support.processes import end
from tests.support.timing import eventually

if TYPE_CHECKING:
    from typing import TypeAlias

    Json: TypeAlias = dict[str, object]

HERE = ("opt", "etc", "run")
"""The directories of the machine in whose place the node's are."""
_SETUP = """\
mount --make-rprivate /
mount --bind {root} {root}
mount --make-rshared {root}
mount --rbind /proc {root}/proc
mount --rbind /dev {root}/dev
for place in opt etc run; do mount --rbind {root}/$place /$place; done
touch {root}/.ready
exec sleep 1000000
"""


class Node:
    """Its directory, ``root``, and programs that see it as the machine's. ``etc`` is a copy of the machine's own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("proc", "dev", "opt", "run/systemd", "run/containerd/s"):
            (root / name).mkdir(parents=True)
        shutil.copytree("/etc", root / "etc", symlinks=True, ignore=shutil.ignore_patterns("gosudacon", "containerd"))
        script = ["sh", "-ec", _SETUP.format(root=root)]
        self._holder = subprocess.Popen(["unshare", "--mount", *script], stdin=subprocess.DEVNULL)
        eventually((root / ".ready").exists, 20, "the node's namespace")
        (root / ".ready").unlink()

    def inside(self, *words: str | Path) -> list[str]:
        """The command line that runs a program there."""
        return ["nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt", "--wd=/", *map(str, words)]

    def stop(self) -> None:
        """End what holds the namespace."""
        for path in Path("/proc").glob("[0-9]*"):  # a template of shims; only a test that failed leaves one
            try:
                if os.readlink(path / "ns/mnt") == self._namespace() and int(path.name) != self._holder.pid:
                    os.kill(int(path.name), signal.SIGKILL)
            except OSError:
                continue
        end(self._holder, 20)

    def _namespace(self) -> str:
        return os.readlink(f"/proc/{self._holder.pid}/ns/mnt")

    def files(self, *places: str) -> dict[str, tuple[int, int, str | bytes]]:
        """What is below these places: mode, owner, and the content or where a link leads."""
        found: dict[str, tuple[int, int, str | bytes]] = {}
        for place in places:
            for path in sorted((self.root / place).rglob("*")):
                status = path.lstat()
                content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else ""
                found[str(path.relative_to(self.root))] = (status.st_mode, status.st_uid, content)
        return found


class Engine:
    """A containerd on the node, configured by the node's /etc/containerd/config.toml."""

    def __init__(self, node: Node, socket_: Path, config: str, home: Path) -> None:
        self.node = node
        self.socket = socket_
        self.log = home / "log"
        self.starts = 0
        (node.root / "etc/containerd").mkdir()
        (node.root / "etc/containerd/config.toml").write_text(config)
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.starts += 1
        self._process = subprocess.Popen(
            self.node.inside("containerd", "--config", "/etc/containerd/config.toml"),
            stdin=subprocess.DEVNULL,
            stdout=self.log.open("ab"),
            stderr=subprocess.STDOUT,
        )
        eventually(lambda: self.ctr("version").returncode == 0, 20, "containerd's answer")

    def ctr(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """Run ctr in the namespace of pods."""
        command = ["ctr", "--address", self.socket, "--namespace", "k8s.io", *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def stop(self) -> None:
        """End it; its containers go on."""
        end(self._process, 20)


class Systemd:
    """What answers on the node at /run/systemd/private. ``restart`` restarts a unit, and says how the job ended."""

    def __init__(self, address: Path, restart: Callable[[str], str]) -> None:
        self._restart = restart
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(address))
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self._talk(connection)

    def _talk(self, connection: socket.socket) -> None:
        if not connection.recv(200).startswith(b"\0AUTH EXTERNAL"):
            return
        connection.sendall(b"OK 0123456789abcdef\r\n")
        serial = 0
        while head := connection.recv(16, socket.MSG_WAITALL):
            header, body = dbus.lengths(head)
            rest = connection.recv(header + body - 16, socket.MSG_WAITALL)
            call = dbus.unpack(head + rest[: header - 16], rest[header - 16 :])
            number = int.from_bytes(head[8:12], "little")
            serial += 2
            if call.member != "RestartUnit":
                connection.sendall(dbus.Message(dbus.METHOD_RETURN, {5: number}).pack(serial))
                continue
            job, unit = f"/job/{serial}", str(call.values[0])
            connection.sendall(dbus.Message(dbus.METHOD_RETURN, {5: number, 8: "o"}, [job]).pack(serial))
            result = self._restart(unit)
            fields = {1: "/org/freedesktop/systemd1", 2: "org.freedesktop.systemd1.Manager", 3: "JobRemoved", 8: "uoss"}
            connection.sendall(dbus.Message(dbus.SIGNAL, fields, [1, job, unit, result]).pack(serial + 1))

    def close(self) -> None:
        """Listen no more."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


class ApiServer:
    """An API server with one node object, which it changes as a merge patch says.

    ``account`` is what the kubelet would put into a pod: a token, and the certificate; ``other.crt`` is another one's.
    """

    def __init__(self, home: Path, node: str, engine: str) -> None:
        self.account = home
        home.mkdir()
        (home / "token").write_text("the-token\n")
        for name in ("ca", "other"):
            subject = ["-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"]
            files = ["-keyout", str(home / f"{name}.key"), "-out", str(home / f"{name}.crt")]
            words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", *subject, *files]
            subprocess.run(words, check=True, capture_output=True)
        self.metadata: dict[str, dict[str, str]] = {"labels": {}, "annotations": {}}
        self.engine = engine
        self.patches: list[Json] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_PATCH(self) -> None:
                body: Json = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                fits = self.path == f"/api/v1/nodes/{node}" and self.headers["Authorization"] == "Bearer the-token"
                if not fits or self.headers["Content-Type"] != "application/merge-patch+json":
                    self.send_error(403)
                    return
                server.merge(body)
                status = {"nodeInfo": {"containerRuntimeVersion": server.engine}}
                found = {"metadata": server.metadata, "status": status}
                answer = json.dumps(found).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: object) -> None:
                """Nothing: the test looks at the patches."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(home / "ca.crt", home / "ca.key")
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def merge(self, body: Json) -> None:
        """Change the node object as RFC 7386 says."""
        self.patches.append(body)
        metadata = body["metadata"]
        assert isinstance(metadata, dict)
        for kind, values in metadata.items():
            for key, value in values.items():
                if value is None:
                    self.metadata[kind].pop(key, None)
                else:
                    self.metadata[kind][key] = value

    def close(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
