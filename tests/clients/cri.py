"""The kubelet's part: a client of the Container Runtime Interface, and what a kubelet asks of it for a pod."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # its handlers are not for tests that fork

import grpc

from gosudacon.wire.protobuf import decode, encode
from tests.clients.cri_types import EXITED, SCHEMAS
from tests.support import cgroups
from tests.support.timing import eventually, seconds

if TYPE_CHECKING:
    from gosudacon.wire.protobuf import Message

Failure = grpc.RpcError


class Cri:
    """The service at a socket; pods get ``parent`` as cgroup, and their logs are below ``logs``."""

    def __init__(self, socket: Path, parent: str, logs: Path) -> None:
        self.parent = parent
        self.logs = logs
        self._channel = grpc.insecure_channel(f"unix:{socket}")
        self.pods: list[Pod] = []

    def call(self, method: str, limit: float = 60, **fields: Any) -> Message:
        """Call a method with the fields of its request; raises ``Failure``."""
        service = "ImageService" if "Image" in method else "RuntimeService"
        function = self._channel.unary_unary(
            f"/runtime.v1.{service}/{method}",
            request_serializer=lambda message: encode(SCHEMAS[f"{method}Request"], message),
            response_deserializer=lambda data: decode(SCHEMAS[f"{method}Response"], data),
        )
        answer: Message = function(fields, timeout=seconds(limit), wait_for_ready=True)
        return answer

    def pod(
        self,
        handler: str = "",
        network: int = 0,
        pid: int = 1,
        ipc: int = 0,
        users: Message | None = None,
        **linux: Any,
    ) -> Pod:
        """Run a sandbox with these namespaces; ``linux`` goes into its configuration for Linux."""
        pod = Pod(self, {"network": network, "pid": pid, "ipc": ipc, "userns_options": users}, linux)
        pod.run(handler)
        return pod

    def clear(self) -> None:
        """Remove all pods, as a kubelet does: what fails is tried again.

        Raises the first failure nevertheless. A pod that stays is forgotten, so that it fails no other test.
        """
        failures = []
        for pod in list(self.pods):
            try:
                pod.remove()
            except Failure as failure:
                failures.append(failure)
                with suppress(AssertionError):
                    eventually(pod.removed, 20, "the removal")
        self.pods.clear()
        if failures:
            raise failures[0]

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()


class Pod:
    """A pod's sandbox, and the containers in it."""

    def __init__(self, cri: Cri, namespaces: Message, linux: Message) -> None:
        self.cri = cri
        self.namespaces = namespaces
        self.id = ""
        self.name = f"p{uuid.uuid4().hex[:8]}"
        context = {"namespace_options": namespaces, **linux.pop("security_context", {})}
        self.logs = cri.logs / self.name
        self.logs.mkdir(parents=True)
        self.config: Message = {
            "metadata": {"name": self.name, "uid": self.name, "namespace": "tests"},
            "hostname": "" if namespaces["network"] == 2 else self.name,
            "log_directory": str(self.logs),
            "linux": {"cgroup_parent": f"{cri.parent}/{self.name}", "security_context": context, **linux},
        }

    def run(self, handler: str) -> None:
        """RunPodSandbox with a runtime class's handler."""
        self.cri.pods.append(self)
        self.id = self.cri.call("RunPodSandbox", config=self.config, runtime_handler=handler)["pod_sandbox_id"]

    def create(self, command: str | Sequence[str], image: str, *, security: Message, **config: Any) -> str:
        """CreateContainer; a string is for ``sh -c``; ``security`` is the security context. Returns the id."""
        words = ["sh", "-c", command] if isinstance(command, str) else list(command)
        name = f"c{uuid.uuid4().hex[:8]}"
        context = {"namespace_options": self.namespaces, **security}
        settings = {
            "metadata": {"name": name},
            "image": {"image": image},
            "command": words,
            "log_path": f"{name}.log",
            "linux": {"resources": config.pop("resources", {}), "security_context": context},
            **config,
        }
        answer = self.cri.call("CreateContainer", pod_sandbox_id=self.id, config=settings, sandbox_config=self.config)
        return str(answer["container_id"])

    def status(self, container: str) -> Message:
        """ContainerStatus."""
        status: Message = self.cri.call("ContainerStatus", container_id=container)["status"]
        return status

    def process(self, container: str) -> int:
        """The number of a container's first process on the host."""
        return int(self._info("ContainerStatus", container_id=container)["pid"])

    def first(self) -> int:
        """The number of the sandbox's own process on the host."""
        return int(self._info("PodSandboxStatus", pod_sandbox_id=self.id)["pid"])

    def _info(self, method: str, **fields: Any) -> dict[str, Any]:
        info: dict[str, Any] = json.loads(self.cri.call(method, verbose=True, **fields)["info"]["info"])
        return info

    def execute(self, container: str, command: str | Sequence[str], timeout: int = 30) -> tuple[int, str, str]:
        """ExecSync: exit status and both outputs."""
        words = ["sh", "-c", command] if isinstance(command, str) else list(command)
        answer = self.cri.call("ExecSync", container_id=container, cmd=words, timeout=timeout)
        return answer["exit_code"], answer["stdout"].decode(), answer["stderr"].decode()

    def ended(self, container: str) -> Message:
        """The status of a container, when it has exited."""
        eventually(lambda: self.status(container)["state"] == EXITED, 30, "the container's end")
        return self.status(container)

    def log(self, container: str) -> str:
        """What a container has written, without the times and marks of the log's format."""
        path = Path(self.status(container)["log_path"])
        return "".join(line.split(" ", 3)[3] for line in path.read_text().splitlines(keepends=True))

    def remove(self) -> None:
        """StopPodSandbox and RemovePodSandbox, which take the containers along."""
        if self.id:
            self.cri.call("StopPodSandbox", pod_sandbox_id=self.id)
            self.cri.call("RemovePodSandbox", pod_sandbox_id=self.id)
        for path in sorted(cgroups.find(self.name), reverse=True):  # the pod's own cgroup is the kubelet's
            cgroups.remove(path)
        shutil.rmtree(self.logs)
        self.cri.pods.remove(self)

    def removed(self) -> bool:
        """Whether `remove` succeeds; a kubelet asks again where it does not."""
        try:
            self.remove()
        except Failure:
            return False
        return True
