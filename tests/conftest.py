"""Fixtures and rules for all tests; docs/testing.md describes them."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest

from gosudacon.testing.plugin import (
    oci_container,
    oci_faults,
    oci_host,
    oci_lasting,
    oci_plan,
    oci_root,
    oci_spec,
)
from tests.support import busybox, cgroups, namespaces, processes
from tests.support.bundle import Bundle, default_config
from tests.support.console import ConsoleSocket
from tests.support.leftovers import Watch
from tests.support.needs import AllowedSkips, missing
from tests.support.runtime import CHECKOUT, Runtime, runtime_command
from tests.support.timing import seconds

__all__ = ["oci_container", "oci_faults", "oci_host", "oci_lasting", "oci_plan", "oci_root", "oci_spec"]

HERE = Path(__file__).parent
KERNEL_FOLDERS = ("kernel", "security", "clients")
"""Folders whose tests need root and busybox, and are watched for leftovers."""
PARENT = "gosudacon-test"
"""The cgroup below which all cgroups of tests are, in every hierarchy."""
TEMPORARY = Path(os.environ.get("GOSUDACON_TEST_TMP", "/tmp"))
"""Where tests have their scratch directories."""

SKIPPED_IN_CI = 64
"""Exit status if a test was skipped that must not be, whatever else has failed."""

_skips: list[tuple[str, str]] = []


def _folder(item: pytest.Item | pytest.FixtureRequest) -> str:
    path = item.path if isinstance(item, pytest.Item) else item.node.path
    return str(path.relative_to(HERE).parts[0])


# Limits in time, for pytest-timeout.


def pytest_collection_modifyitems(items: list[pytest.Item], config: pytest.Config) -> None:
    """Stretch the limits, given in seconds of an ordinary machine, on a slow one."""
    usual = float(config.getini("timeout"))
    for item in items:
        mark = item.get_closest_marker("timeout")
        item.add_marker(pytest.mark.timeout(seconds(mark.args[0] if mark else usual)), append=False)


def pytest_configure() -> None:
    """Signals as usual, and nothing of hypothesis's beside the sources."""
    os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(CHECKOUT / ".test-cache/hypothesis"))
    # A shell that starts us in the background has us ignore these, and with us all that the tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)


# Skipping: needs, and the list of what CI may skip.


def pytest_runtest_setup(item: pytest.Item) -> None:
    names = [name for mark in item.iter_markers("needs") for name in mark.args]
    if _folder(item) in KERNEL_FOLDERS:
        names += ["root", "busybox"]
    for name in names:
        reason = missing(name)
        if reason is not None:
            pytest.skip(reason)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail") and isinstance(report.longrepr, tuple):
        _skips.append((report.nodeid, report.longrepr[2].removeprefix("Skipped: ")))


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.skipped and isinstance(report.longrepr, tuple):
        _skips.append((report.nodeid, report.longrepr[2].removeprefix("Skipped: ")))


def _unwelcome_skips() -> list[tuple[str, str]]:
    if os.environ.get("CI", "") not in ("true", "1"):
        return []
    allowed = AllowedSkips(HERE / "allowed_skips.txt")
    return [(test, reason) for test, reason in _skips if not allowed.allow(test, reason)]


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if _unwelcome_skips() and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        session.exitstatus = SKIPPED_IN_CI


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for test, reason in _unwelcome_skips():
        terminalreporter.write_line(f"CI: {test} must not be skipped ({reason}); see tests/allowed_skips.txt", red=True)


# The machine, for the whole run.


@pytest.fixture(scope="session")
def token() -> str:
    """A word that is part of the name of everything this run makes on the machine, and of nothing else.

    All tokens are of one length, so that none is part of another.
    """
    return f"gt{os.urandom(3).hex()}"


@pytest.fixture(scope="session")
def machine(token: str) -> Iterator[None]:
    """Namespaces of this run's own, every orphan a child of ours, and no cgroups of ours when it is over."""
    namespaces.enter_private(_needed())
    os.mkdir("/run/lock", 0o755)
    os.mkdir("/var/cache/gosudacon", 0o755)
    processes.become_subreaper()
    cgroups.claim(PARENT, token)
    yield
    for path in sorted(cgroups.find(token), reverse=True):
        cgroups.remove(path)
    for item in cgroups.hierarchies():
        cgroups.remove(item.mountpoint / PARENT)


def _needed() -> list[Path]:
    """What the run reads wherever it lies: checkout, interpreter, the runtime under test, temporary directories."""
    words = [word for word in runtime_command() if word.startswith("/")]
    places = [os.getcwd(), sys.prefix, sys.base_prefix, tempfile.gettempdir(), *words]
    return [CHECKOUT, TEMPORARY, *map(Path, places)]


@pytest.fixture(scope="session")
def session_scratch(token: str) -> Iterator[Path]:
    """A directory for this run, on a short path, which users in a user namespace can pass through."""
    path = Path(tempfile.mkdtemp(prefix=f"{token}.", dir=TEMPORARY))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def busybox_rootfs(session_scratch: Path) -> Path:
    """A root filesystem with busybox, made once.  Do not change it: ``bundle`` gives each test a copy."""
    return busybox.make_rootfs(session_scratch / "rootfs")


# One test.


@pytest.fixture
def scratch(session_scratch: Path) -> Iterator[Path]:
    """An empty directory, gone after the test: a short path on a real filesystem, mode 0755."""
    path = Path(tempfile.mkdtemp(prefix="t", dir=session_scratch))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(autouse=True)
def _watch_leftovers(request: pytest.FixtureRequest) -> None:
    if _folder(request) in KERNEL_FOLDERS:
        request.getfixturevalue("leftovers")


@pytest.fixture
def leftovers(machine: None, token: str, busybox_rootfs: Path, scratch: Path) -> Iterator[Watch]:
    """Fails the test if it leaves mounts, cgroups, processes, network interfaces or state behind.

    The working directory is ``scratch``, so that what a program writes there does not get into the checkout.
    """
    with chdir(scratch):
        watch = Watch(token, parents=(f"{PARENT}/{token}", token), roots=(scratch / "root",))
        yield watch
        lines = watch.leftovers()
        if lines:
            watch.clear()
            pytest.fail("left behind:\n  " + "\n  ".join(lines), pytrace=False)


@pytest.fixture
def runtime(leftovers: Watch, scratch: Path) -> Iterator[Runtime]:
    """The runtime under test with a ``--root`` of its own; containers that a test leaves are deleted."""
    value = Runtime(runtime_command(), scratch / "root")
    yield value
    value.clean()


@pytest.fixture
def runc(leftovers: Watch, scratch: Path) -> Iterator[Runtime]:
    """runc with a ``--root`` of its own, to compare with; the test needs ``program:runc``."""
    value = Runtime(["runc"], scratch / "runc")
    yield value
    value.clean()


@pytest.fixture
def make_bundle(scratch: Path, token: str, busybox_rootfs: Path) -> Callable[..., Bundle]:
    """A function that makes bundles: ``make_bundle("echo hi")``, ``make_bundle(["id"], {"hostname": "x"})``.

    A string is for ``sh -c``; the default is to sleep.  The second argument is merged into the
    configuration.  ``rootfs`` takes the place of the copy of ``busybox_rootfs``, ``name`` that of the
    bundle's number in its id and path.
    """
    count = 0

    def make(
        args: str | list[str] = "exec sleep 1000",
        changes: dict[str, Any] | None = None,
        *,
        rootfs: Path | None = None,
        name: str | None = None,
    ) -> Bundle:
        nonlocal count
        count += 1
        path = scratch / (name or f"b{count}")
        path.mkdir()
        container_id = f"{token}-{scratch.name}-{name or count}"
        words = ["sh", "-c", args] if isinstance(args, str) else args
        config = default_config(words, f"/{PARENT}/{token}/{container_id}")
        if rootfs is None:
            busybox.copy_rootfs(busybox_rootfs, path / "rootfs")
        else:
            config["root"]["path"] = str(rootfs)
        return Bundle(path, container_id, config).update(changes or {})

    return make


@pytest.fixture
def bundle(make_bundle: Callable[..., Bundle]) -> Bundle:
    """A bundle that sleeps, unless the test changes it."""
    return make_bundle()


@pytest.fixture
def console_socket(scratch: Path) -> Iterator[ConsoleSocket]:
    """A socket for ``--console-socket``."""
    with ConsoleSocket(scratch / "console.sock") as value:
        yield value
