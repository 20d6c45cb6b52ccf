"""Fixtures of the client tests: one private containerd for all of them."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.clients.daemon import Completed, Containerd, checked, wrapper
from tests.clients.image import write_image
from tests.clients.output import collect, patient
from tests.support import namespaces
from tests.support.leftovers import Watch
from tests.support.runtime import runtime_command

IMAGE = "docker.io/gosudacon/busybox:test"
USER_IMAGE = "docker.io/gosudacon/busybox:user"


@pytest.fixture(scope="session")
def containerd(machine: None, session_scratch: Path, busybox_rootfs: Path, token: str) -> Iterator[Containerd]:
    """A private containerd with ``IMAGE`` and ``USER_IMAGE`` (user 1000, some environment, a cwd)."""
    if shutil.which("containerd") is None or shutil.which("ctr") is None:
        pytest.skip("needs program:containerd")
    # The shim's sockets are at a fixed place, /run/containerd/s; in our mount namespace it is our own.
    made = not Path("/run/containerd").exists()
    Path("/run/containerd").mkdir(exist_ok=True)
    namespaces.mount("tmpfs", "/run/containerd", "tmpfs")
    Path("/run/containerd/s").mkdir()
    base = session_scratch / "ctd"
    try:
        daemon = Containerd(base, token, wrapper(runtime_command(), session_scratch / "runtime"))
        try:
            user = {"User": "user", "WorkingDir": "/home/user", "Env": ["PATH=/bin", "COLOUR=blue"]}
            for name, config in ((IMAGE, {}), (USER_IMAGE, user)):
                write_image(session_scratch / "image.tar", busybox_rootfs, name, config)
                daemon.ctr("images", "import", session_scratch / "image.tar")
            yield daemon
        finally:
            daemon.stop()
    finally:
        namespaces.unmount("/run/containerd")
        if made:
            Path("/run/containerd").rmdir()


@pytest.fixture
def ctr(containerd: Containerd, leftovers: Watch) -> Iterator[Containerd]:
    """The daemon, for one test, which must leave no container, task, snapshot, bundle or state in it."""
    leftovers.add_roots(containerd.state, containerd.states)
    yield containerd
    left = {kind: sorted(containerd.list(kind)) for kind in ("tasks", "containers", "snapshots")}
    if any(left.values()):
        containerd.remove_all()
        pytest.fail(f"left in containerd: {left}", pytrace=False)


@pytest.fixture
def run(ctr: Containerd) -> Callable[..., Completed]:
    """``run("echo hi")``: ``ctr run --rm`` of a shell command (or a list of words) to its end."""

    def call(
        command: str | Sequence[str],
        *options: str | Path,
        image: str = IMAGE,
        name: str = "",
        check: bool = True,
    ) -> Completed:
        script = patient(command) if isinstance(command, str) else command
        words = ctr.words(*ctr.run_arguments(image, name or new_name(), script, "--rm", *options))
        status, out, err = collect(words)
        result = Completed(words, status, out.decode(errors="replace"), err.decode(errors="replace"))
        return checked(result) if check else result

    return call


@pytest.fixture
def detached(ctr: Containerd) -> Callable[..., str]:
    """``detached("sleep 9")``: ``ctr run --detach``; returns the container's name."""

    def call(command: str | Sequence[str], *options: str | Path, image: str = IMAGE, name: str = "") -> str:
        name = name or new_name()
        ctr.ctr(*ctr.run_arguments(image, name, command, "--detach", *options))
        return name

    return call


def new_name() -> str:
    """A container name that is used once."""
    return f"c{uuid.uuid4().hex[:10]}"
