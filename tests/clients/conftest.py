"""Fixtures of the client tests: a private containerd, dockerd and storage of podman's for all of them."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.clients.daemon import Completed, Containerd, Template, checked, own_shim, wrapper
from tests.clients.dockerd import Dockerd, clean, daemon_json, running_dockerd, shim_json
from tests.clients.image import write_image
from tests.clients.output import collect, patient
from tests.clients.podman import Podman
from tests.conftest import PARENT
from tests.support.browser import Browser
from tests.support.leftovers import Watch
from tests.support.runtime import runtime_command

IMAGE = "docker.io/gosudacon/busybox:test"
USER_IMAGE = "docker.io/gosudacon/busybox:user"


@pytest.fixture(scope="session")
def shims(machine: None) -> Iterator[None]:
    """The directory for the sockets of shims, whose place is fixed; no template of ours stays."""
    if shutil.which("containerd") is None or shutil.which("ctr") is None:
        pytest.skip("needs program:containerd")
    Path("/run/containerd/s").mkdir(parents=True)
    yield
    Template.kill()


@pytest.fixture(scope="module")
def program(shims: None) -> Path:
    """Our shim, with a template."""
    shim = own_shim(runtime_command())
    Template.begin(shim)
    return shim


@pytest.fixture(scope="session")
def image(session_scratch: Path, busybox_rootfs: Path) -> Callable[..., Path]:
    """``image(NAME, CONFIG)``: an archive with an image of busybox and this configuration."""

    def make(name: str, config: dict[str, Any]) -> Path:
        write_image(session_scratch / "image.tar", busybox_rootfs, name, config)
        return session_scratch / "image.tar"

    return make


_ONLY = {"runc": "runc_shim", "shim": "own_shim"}
"""Kind of shim -> the marker of a test for it alone."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """What runs with containerd runs twice: with its shim for runc, and with ours."""
    if "containerd" in metafunc.fixturenames:
        marked = [kind for kind, mark in _ONLY.items() if metafunc.definition.get_closest_marker(mark)]
        kinds = marked or [*_ONLY]
        metafunc.parametrize("containerd", kinds, indirect=True, scope="session")


@pytest.fixture(scope="session")
def containerd(
    request: pytest.FixtureRequest, shims: None, session_scratch: Path, image: Callable[..., Path], token: str
) -> Iterator[Containerd]:
    """A private containerd with ``IMAGE`` and ``USER_IMAGE`` (user 1000, some environment, a cwd)."""
    shim = own_shim(runtime_command()) if request.param == "shim" else None
    runtime = wrapper(runtime_command(), session_scratch / "runtime")
    daemon = Containerd(session_scratch / f"ctd-{request.param}", token, runtime, shim=shim)
    try:
        user = {"User": "user", "WorkingDir": "/home/user", "Env": ["PATH=/bin", "COLOUR=blue"]}
        for name, config in ((IMAGE, {}), (USER_IMAGE, user)):
            daemon.ctr("images", "import", image(name, config))
        yield daemon
    finally:
        daemon.stop()


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


@pytest.fixture(scope="module", params=["runc", "shim"])
def dockerd(
    request: pytest.FixtureRequest, shims: None, session_scratch: Path, busybox_rootfs: Path, token: str
) -> Iterator[Dockerd]:
    """A private dockerd, configured as docs/integration.md says, whose default runtime is the one under test.

    It runs again with our shim. Of one module: no two may run at a time, since one that wants no bridge deletes the
    other's.
    """
    if request.param == "shim":
        settings, shim = shim_json(), own_shim(runtime_command())
        with running_dockerd(session_scratch / "dks", token, busybox_rootfs, settings, shim=shim) as daemon:
            yield daemon
        return
    settings = daemon_json("default", wrapper(runtime_command(), session_scratch / "docker-runtime"))
    with running_dockerd(session_scratch / "dkr", token, busybox_rootfs, settings) as daemon:
        yield daemon


@pytest.fixture
def docker(dockerd: Dockerd, leftovers: Watch) -> Iterator[Dockerd]:
    """The daemon, for one test, after which its containers are removed and nothing may be left of them."""
    yield from clean(dockerd, leftovers)


@pytest.fixture(scope="session")
def engine(machine: None, session_scratch: Path, busybox_rootfs: Path, token: str) -> Iterator[Podman]:
    """Podman with ``IMAGE`` and ``USER_IMAGE`` (user 1000, some environment, a cwd) in storage of its own."""
    for program in ("podman", "conmon"):
        if shutil.which(program) is None:
            pytest.skip(f"needs program:{program}")
    # Podman calls the runtime's ``state`` without --root.
    defaults = [Path("/run/gosudacon"), Path("/run/runc"), Path("/run/crun")]
    for path in defaults:
        path.mkdir(0o700)
    podman = Podman(
        session_scratch / "pod", wrapper(runtime_command(), session_scratch / "podrt"), f"/{PARENT}/{token}/pod"
    )
    try:
        user = {"User": "user", "WorkingDir": "/home/user", "Env": ["PATH=/bin", "COLOUR=blue"]}
        for name, config in ((IMAGE, {}), (USER_IMAGE, user)):
            write_image(session_scratch / "podman.tar", busybox_rootfs, name, config)
            podman.call("load", "--input", session_scratch / "podman.tar")
        podman.run("true")  # makes what stays: the parent of all cgroups, and that of conmon
        yield podman
    finally:
        podman.unmount()
        for path in defaults:
            shutil.rmtree(path)


@pytest.fixture
def podman(engine: Podman, leftovers: Watch) -> Iterator[Podman]:
    """Podman, for one test, which must leave no container, pod, volume or file of theirs."""
    yield engine
    left = engine.left()
    if left:
        engine.remove_all()
    engine.unmount()
    if left:
        pytest.fail(f"left in podman: {left}", pytrace=False)


def new_name() -> str:
    """A container name that is used once."""
    return f"c{uuid.uuid4().hex[:10]}"


@pytest.fixture
def browser(leftovers: object, scratch: Path) -> Iterator[Browser]:
    """One of this test's own, gone before what is left is looked for."""
    directory = scratch / "browser"
    directory.mkdir()
    with Browser(directory) as value:
        yield value
        assert [address for address in value.asked if not address.startswith(("file:", "about:", "data:"))] == []
        assert value.said == []
