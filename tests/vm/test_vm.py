"""The tests marked ``vm`` again, in a machine with a plain cgroup v2 hierarchy; those marked ``vm_systemd`` in one
that systemd has booted.  One boot each: code runs 10 to 30 times slower in there.
"""

from __future__ import annotations

import os
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.needs import needs
from tests.support.runtime import CHECKOUT
from tests.support.timing import seconds
from tests.vm.guest import Guest
from tests.vm.kernel import Kernel, NoKernel, find_kernel, unpack_kernel
from tests.vm.machine import Machine

pytestmark = needs("root", "busybox", "program:qemu-system-x86_64")

_PASSED_ON = ("PATH", "HOME", "LANG", "CI", "GOSUDACON", "GOSUDACON_TEST_SLOWNESS")
_FOLDERS = ("tests/kernel", "tests/security", "tests/clients")


@pytest.fixture(scope="session")
def kernel() -> Kernel:
    """``$GOSUDACON_TEST_KERNEL``, or an installed kernel, or one unpacked below ``.test-cache``."""
    named = os.environ.get("GOSUDACON_TEST_KERNEL")
    if named:
        return find_kernel(Path(named))
    try:
        return find_kernel()
    except NoKernel:
        return find_kernel(unpack_kernel(CHECKOUT / ".test-cache/kernel"))


def run_marked(mark: str, kernel: Kernel, share: Path, *, systemd: bool, timeout: float) -> None:
    """Run the tests with this mark in a machine; fail with the names of those that failed there."""
    report = share / f"{mark}.xml"
    options = ["-m", mark, "-q", "--tb=short", "--durations=12", "-p", "no:cacheprovider", f"--junitxml={report}"]
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    guest = Guest(
        command=[sys.executable, "-B", "-m", "pytest", *options, *_FOLDERS],
        share=share,
        directory=CHECKOUT,
        environment={**environment, "VM_RUN": "1", "GOSUDACON_TEST_TMP": "/scratch"},
        systemd=systemd,
    )
    errors = bytearray()
    with Machine(guest, kernel, seconds(timeout)) as machine:
        status = machine.run(lambda data: print(data.decode(errors="replace"), end=""), errors.extend, errors.extend)
    text = errors[-4000:].decode(errors="replace")
    if not report.exists():
        pytest.fail(f"no report came from the machine (exit status {status})\n{text}", pytrace=False)
    keep = os.environ.get("GOSUDACON_TEST_REPORTS")
    if keep:
        (Path(keep) / f"vm_in_{mark}.xml").write_bytes(report.read_bytes())
    passed, failed = results(report)
    if failed or status != 0:
        names = "\n  ".join(failed)
        pytest.fail(f"exit status {status}; failed in the machine:\n  {names}\n{text}", pytrace=False)
    assert passed, f"no test is marked {mark}"


def results(report: Path) -> tuple[list[str], list[str]]:
    """Names of the tests that passed and of those that failed, from a report in JUnit's format."""
    passed, failed = [], []
    for case in ElementTree.parse(report).iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        if case.find("failure") is not None or case.find("error") is not None:
            failed.append(name)
        elif case.find("skipped") is None:
            passed.append(name)
    return passed, failed


@pytest.fixture
def share() -> Iterator[Path]:
    """A directory for reports, which the machine can write to.

    It is not in /tmp, where a pytest in the machine tidies up.
    """
    if CHECKOUT.stat().st_dev != Path("/").stat().st_dev:
        pytest.fail(f"{CHECKOUT} is not on the root filesystem, the only one that the machine sees")
    (CHECKOUT / ".test-cache").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="vm-", dir=CHECKOUT / ".test-cache") as path:
        yield Path(path)


@pytest.mark.timeout(2100)
def test_plain_machine(kernel: Kernel, share: Path) -> None:
    run_marked("vm", kernel, share, systemd=False, timeout=1800)


@pytest.mark.timeout(1200)
@needs("program:dbus-daemon")
def test_machine_with_systemd(kernel: Kernel, share: Path) -> None:
    run_marked("vm_systemd", kernel, share, systemd=True, timeout=900)
