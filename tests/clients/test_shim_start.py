"""The programs that containerd executes: what each action of our shim reads and says."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("google.protobuf", "6.30", reason="needs protobuf")

from gosudacon import __version__
from tests.clients.daemon import Template, own_shim
from tests.clients.test_shim_alone import Task, events, prepared
from tests.clients.ttrpc_client import Events, any_of
from tests.conftest import PARENT
from tests.support import cgroups
from tests.support.bundle import Bundle
from tests.support.containerd_api import message_class
from tests.support.needs import needs
from tests.support.runtime import runtime_command
from tests.support.timing import seconds

__all__ = ["events"]  # a fixture

pytestmark = needs("root", "busybox", "program:containerd")


@pytest.fixture(scope="module")
def program(shims: None) -> Path:
    """Our shim, with a template."""
    shim = own_shim(runtime_command())
    Template.begin(shim)
    return shim


@pytest.fixture
def task(program: Path, bundle: Bundle, scratch: Path, events: Events, token: str) -> Iterator[Task]:
    """A shim that has not started; it is ended."""
    task = prepared("own", program, bundle, scratch, events, token)
    yield task
    task.end()


def said(program: Path, *words: str, given: bytes = b"") -> bytes:
    """What the program prints, which must succeed and have nothing to warn of."""
    result = subprocess.run([program, *words], input=given, capture_output=True, timeout=seconds(30), check=False)
    assert (result.returncode, result.stderr) == (0, b"")
    return result.stdout


@pytest.mark.parametrize("word", ["-v", "-version", "--version"])
def test_its_version(program: Path, word: str) -> None:
    assert said(program, word).decode() == f"containerd-shim-gosudacon-v1:\n  Version: {__version__}\n"


def test_what_it_can(program: Path) -> None:
    """Its name and version, the features of the runtime as it prints them itself, and the options as they came."""
    options = any_of("example.org/Options", b"abc")
    for given in (b"", options.SerializeToString()):
        info: Any = message_class("containerd.types.RuntimeInfo").FromString(said(program, "-info", given=given))
        assert (info.name, info.version.version) == ("containerd-shim-gosudacon-v1", __version__)
        assert info.options.SerializeToString() == given
        assert info.features.type_url == "types.containerd.io/opencontainers/runtime-spec/1/features/Features"
        features = json.loads(info.features.value)
        command = subprocess.run([*runtime_command(), "features"], capture_output=True, text=True, check=True)
        assert features == json.loads(command.stdout)
        assert "rro" in features["mountOptions"] and features["linux"]["mountExtensions"]["idmap"]["enabled"]


@pytest.mark.parametrize("words", [["nonsense"], ["-nonsense"], ["-id"], ["start"], ["-id", "c", "start"]])
def test_wrong_words(program: Path, words: list[str], scratch: Path) -> None:
    """One line says what is wrong; nothing is left of it."""
    result = subprocess.run(
        [program, *words], stdin=subprocess.DEVNULL, capture_output=True, cwd=scratch, timeout=seconds(30), check=False
    )
    assert (result.returncode, result.stdout) == (1, b"")
    assert result.stderr.count(b"\n") <= 1 and result.stderr


def test_parameters_of_containerd_2_3(task: Task, scratch: Path, token: str) -> None:
    """Asked by them the shim names the third version; they say where its socket is, and where events go."""
    task.shim.forget_environment()
    sockets = scratch / "s"
    given = message_class("containerd.runtime.bootstrap.v1.BootstrapParams")(
        instance_id=task.id,
        namespace=token,
        containerd_version="v2.3.4",
        containerd_ttrpc_address=str(task.events.path),
        containerd_grpc_address=f"{task.events.path}.grpc",
        socket_dir=str(sockets),
        extensions=[{"value": task.options}],
    )
    task.begin(given)
    assert task.shim.version == 3
    assert task.shim.address.startswith(f"unix://{sockets}/")
    task.run("exit 7")
    assert task.client.call("Wait", id=task.id).exit_status == 7
    task.events.await_topics(task.id, ["create", "start", "exit"])


def test_the_options_of_containerd_1(task: Task) -> None:
    """A plain address, which means the second version to each containerd."""
    task.begin(task.options)
    assert task.shim.version == 2
    assert (task.bundle.path / "address").read_text() == task.shim.address


# Options.


def options(task: Task, **more: Any) -> Any:
    """Options for runc with these besides the root."""
    name = "containerd.runc.v1.Options"
    root = str(task.bundle.path.parent / "states")
    return any_of(name, message_class(name)(root=root, **more))


def test_a_cgroup_for_the_shim(task: Task, token: str) -> None:
    """In each hierarchy that has it; the container is where its configuration says."""
    name = f"/{PARENT}/{token}/shim"
    hierarchies = [each for each in cgroups.hierarchies() if "cpuset" not in each.controllers or each.version == 2]
    made = [Path(f"{each.mountpoint}{name}") for each in hierarchies]
    for directory in made:
        directory.mkdir(parents=True)
    task.options = options(task, shim_cgroup=name)
    task.begin(task.options)
    init = task.run()
    shim = task.client.call("Connect", id=task.id).shim_pid
    places = {line.split(":", 2)[2] for line in Path(f"/proc/{shim}/cgroup").read_text().splitlines()}
    assert name in places
    assert name not in Path(f"/proc/{init}/cgroup").read_text()
    task.end()
    for directory in made:
        directory.rmdir()


def test_no_cgroup_for_the_shim(task: Task, token: str) -> None:
    with pytest.raises(AssertionError, match="the cgroup for the shim, /none, does not exist"):
        task.begin(options(task, shim_cgroup="/none"))


def test_options_that_are_ignored(task: Task) -> None:
    """The log says so; another runtime's program is not executed."""
    task.options = options(task, binary_name="/no/such/runc")
    task.begin(task.options)
    task.run()
    assert f"container {task.id}: ignored: BinaryName /no/such/runc" in task.shim.log()
