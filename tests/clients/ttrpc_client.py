"""containerd's part, played by tests: a client of the task service, the service for events, and a shim between them.

Nothing of the program under test is used: messages are the protobuf library's (`tests.support.containerd_api`), and
frames are made and read here.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import struct
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.support.containerd_api import METHODS, message_class
from tests.support.timing import eventually, seconds

REQUEST, RESPONSE, DATA = 1, 2, 3
NOT_FOUND, ALREADY_EXISTS, RESOURCE_EXHAUSTED, INVALID_ARGUMENT, UNIMPLEMENTED = 5, 6, 8, 3, 12
UNKNOWN, FAILED_PRECONDITION = 2, 9
LARGEST = 4 << 20
OCI = "types.containerd.io/opencontainers/runtime-spec/1"
_HEADER = struct.Struct(">IIBB")
_Request, _Response = message_class("ttrpc.Request"), message_class("ttrpc.Response")


class Failure(Exception):
    """A call that was answered with a status."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{message} (code {code})")
        self.code = code
        self.message = message


class Lost(Exception):
    """The other side has closed the connection, or says nothing in time."""


def any_of(type_url: str, value: bytes | object = b"") -> Any:
    """An Any with a message of the library, bytes, or something that becomes JSON."""
    if hasattr(value, "SerializeToString"):
        value = value.SerializeToString()
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return message_class("google.protobuf.Any")(type_url=type_url, value=data)


class Client:
    """A connection to a shim. Calls may overlap: `begin` and `finish` are the two halves of `call`."""

    def __init__(self, address: str, version: int = 2, limit: float = 30) -> None:
        self._service = f"containerd.task.v{version}.Task"
        self._stream = -1
        self._answers: dict[int, bytes] = {}
        self._expected: dict[int, str] = {}
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(seconds(limit))
        try:
            self.socket.connect(address.removeprefix("unix://"))
        except BaseException:
            self.socket.close()
            raise

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def call(self, method: str, **fields: Any) -> Any:
        """Call a method with the fields of its request; its response. Raises `Failure` and `Lost`."""
        return self.finish(self.begin(method, **fields))

    def begin(self, method: str, **fields: Any) -> int:
        """Send a request; the stream on which its answer comes."""
        request = METHODS[method][0]
        return self.begin_raw(method, message_class(f"containerd.task.v2.{request}")(**fields).SerializeToString())

    def begin_raw(self, method: str, payload: bytes, service: str = "", timeout: int = 0) -> int:
        """Send a request with any payload to any service, with a timeout in nanoseconds."""
        self._stream += 2
        self._expected[self._stream] = method
        request = _Request(
            service=service or self._service,
            method=method,
            payload=payload,
            timeout_nano=timeout,
            metadata=[{"key": "containerd-namespace-ttrpc", "value": "test"}],
        )
        self.send(frame(self._stream, REQUEST, request.SerializeToString()))
        return self._stream

    def finish(self, stream: int) -> Any:
        """The response on a stream. Raises `Failure` and `Lost`."""
        while stream not in self._answers:
            number, kind, data = self.receive()
            if kind == RESPONSE:
                self._answers[number] = data
        response: Any = _Response.FromString(self._answers.pop(stream))
        if response.status.code:
            raise Failure(response.status.code, response.status.message)
        name = METHODS[self._expected.pop(stream)][1]
        return message_class(f"containerd.task.v2.{name}" if name else "google.protobuf.Empty").FromString(
            response.payload
        )

    def answered(self, stream: int, within: float = 0.2) -> bool:
        """Whether there is an answer on a stream, now or in some seconds."""
        limit = self.socket.gettimeout()
        self.socket.settimeout(within)
        try:
            while stream not in self._answers:
                number, _, data = self.receive()
                self._answers[number] = data
        except Lost:
            return False
        finally:
            self.socket.settimeout(limit)
        return True

    def send(self, data: bytes) -> None:
        """Send bytes, whatever they are. Raises `Lost`."""
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise Lost(f"sending: {error}") from error

    def receive(self) -> tuple[int, int, bytes]:
        """Stream, kind and data of the next frame. Raises `Lost`."""
        length, stream, kind, _ = _HEADER.unpack(self._read(_HEADER.size))
        return stream, kind, self._read(length)

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            try:
                more = self.socket.recv(count - len(data))
            except OSError as error:
                raise Lost(f"receiving: {error}") from error
            if not more:
                raise Lost("the connection is closed")
            data += more
        return data


def frame(stream: int, kind: int, data: bytes, flags: int = 0, length: int | None = None) -> bytes:
    """A frame; its header may lie about the length."""
    return _HEADER.pack(len(data) if length is None else length, stream, kind, flags) + data


class Events:
    """The service to which a shim sends its events; ``seen`` has them in their order, as (topic, message)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seen: list[tuple[str, Any]] = []
        self._stop, self._stopped = os.pipe()
        self._thread: threading.Thread | None = None
        self.up()

    def up(self) -> None:
        """Listen, as containerd does when it starts."""
        listener = socket.socket(socket.AF_UNIX)
        self.path.unlink(missing_ok=True)
        listener.bind(str(self.path))
        listener.listen()
        self._thread = threading.Thread(target=self._serve, args=(listener,))
        self._thread.start()

    def down(self) -> None:
        """Close the socket and all connections, as when containerd ends."""
        if self._thread is not None:
            os.write(self._stopped, b"x")
            self._thread.join()
            os.read(self._stop, 1)
            self._thread = None

    def close(self) -> None:
        """Be gone."""
        self.down()
        for fd in (self._stop, self._stopped):
            os.close(fd)
        self.path.unlink(missing_ok=True)

    def topics(self, container: str) -> list[str]:
        """The events of one container, without ``/tasks/``."""
        return [topic.removeprefix("/tasks/") for topic, event in self.seen if event.container_id == container]

    def await_topics(self, container: str, topics: list[str], *, ordered: bool = True) -> None:
        """Wait for exactly these events of a container, in this order unless that may be any."""
        eventually(lambda: len(self.topics(container)) >= len(topics), 20, f"the events {topics}")
        seen = self.topics(container)
        assert seen == topics or (not ordered and sorted(seen) == sorted(topics)), seen

    def _serve(self, listener: socket.socket) -> None:
        buffers: dict[socket.socket, bytes] = {}
        with selectors.DefaultSelector() as selector, listener:
            selector.register(self._stop, selectors.EVENT_READ)
            selector.register(listener, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fd == self._stop:
                        for connection in buffers:
                            connection.close()
                        return
                    if key.fileobj is listener:
                        connection, _ = listener.accept()
                        buffers[connection] = b""
                        selector.register(connection, selectors.EVENT_READ)
                        continue
                    connection = key.fileobj  # type: ignore[assignment]
                    try:
                        data = connection.recv(1 << 16)
                    except ConnectionResetError:  # the shim was killed
                        data = b""
                    if data:
                        buffers[connection] = self._take(connection, buffers[connection] + data)
                    else:
                        selector.unregister(connection)
                        del buffers[connection]
                        connection.close()

    def _take(self, connection: socket.socket, data: bytes) -> bytes:
        while len(data) >= _HEADER.size:
            length, stream, kind, _ = _HEADER.unpack(data[: _HEADER.size])
            end = _HEADER.size + length
            if len(data) < end:
                break
            request: Any = _Request.FromString(data[_HEADER.size : end])
            data = data[end:]
            assert (kind, request.service) == (REQUEST, "containerd.services.events.ttrpc.v1.Events")
            forward: Any = message_class("containerd.services.events.ttrpc.v1.ForwardRequest").FromString(
                request.payload
            )
            event = forward.envelope.event
            self.seen.append((forward.envelope.topic, message_class(event.type_url).FromString(event.value)))
            with suppress(BrokenPipeError):
                connection.sendall(frame(stream, RESPONSE, b""))
        return data


class Shim:
    """A shim that is called as containerd calls it, for the bundle ``bundle``, whose directory's name is not its id.

    ``options`` is what is sent on the standard input of `start`.
    """

    def __init__(self, program: Path, bundle: Path, id: str, namespace: str, events: Events) -> None:
        self.bundle = bundle
        self.id = id
        self.address = ""
        self.version = 2  # of the task service, as the shim says
        self.said = ""  # by `start`
        self.wrapper: list[str] = []  # a program that executes it
        self._words = [str(program), "-namespace", namespace, "-address", f"{events.path}.grpc"]
        self._words += ["-publish-binary", "/bin/false", "-id", id]
        self._environment = {**os.environ, "TTRPC_ADDRESS": str(events.path), "MAX_SHIM_VERSION": "2"}
        os.mkfifo(bundle / "log", 0o700)
        self._log = os.open(bundle / "log", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def add_environment(self, **variables: str) -> None:
        """Have it called with these variables, too."""
        self._environment.update(variables)

    def forget_environment(self) -> None:
        """Say nothing in the environment, as containerd 2.3 says all on standard input."""
        for name in ("TTRPC_ADDRESS", "MAX_SHIM_VERSION"):
            del self._environment[name]

    def start(self, options: Any = None) -> str:
        """Have it start; its address. It must leave nobody with the other end of its output."""
        data = b"" if options is None else options.SerializeToString()
        result = subprocess.run(
            [*self.wrapper, *self._words, "start"],
            input=data,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.bundle,
            env=self._environment,
            timeout=seconds(30),
            check=False,
            process_group=0,
        )
        text = result.stdout.decode().strip()
        assert result.returncode == 0, text
        self.address = self.said = text
        if text.startswith("{"):
            answer = json.loads(text)
            self.address, self.version = answer["address"], answer["version"]
        assert self.address.startswith("unix:///"), text
        return self.address

    def delete(self, check: bool = True) -> Any:
        """Have it clean up; what it says of the end. With ``check`` it must succeed."""
        result = subprocess.run(
            [*self._words, "-bundle", str(self.bundle), "delete"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd=self.bundle,
            env=self._environment,
            timeout=seconds(30),
            check=False,
            process_group=0,
        )
        assert result.returncode == 0 or not check, result.stderr.decode()
        return message_class("containerd.task.v2.DeleteResponse").FromString(result.stdout)

    def client(self, version: int = 0) -> Client:
        """A connection to it, for the version of the task service that it has named."""
        return Client(self.address, version or self.version)

    def log(self) -> str:
        """What it has logged since the last call."""
        try:
            return os.read(self._log, 1 << 16).decode(errors="replace")
        except BlockingIOError:
            return ""

    def close(self) -> None:
        """Close the log."""
        os.close(self._log)


def reader(path: Path) -> Callable[[], str]:
    """Open a FIFO as containerd's client does; the function waits for its end and gives what came."""
    os.mkfifo(path, 0o700)
    got: list[bytes] = []

    def read() -> None:
        with path.open("rb") as file:
            got.append(file.read())

    thread = threading.Thread(target=read, daemon=True)
    thread.start()

    def contents() -> str:
        thread.join(seconds(20))
        assert got, f"{path.name} has no end"
        return got[0].decode()

    return contents
