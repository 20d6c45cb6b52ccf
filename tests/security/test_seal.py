"""The seal: a handle to the interpreter's text, taken from inside a container, is worth nothing (CVE-2019-5736)."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gosudacon.launcher import build, program
from tests.security import attack
from tests.support.bundle import Bundle
from tests.support.needs import needs
from tests.support.runtime import Completed, Runtime

pytestmark = needs("root", "compiler", "kernel>=5.12")

HERE = Path(__file__).parent
PYTHON = Path(os.path.realpath(sys.executable))
ALL_CAPABILITIES = [
    "CAP_SYS_ADMIN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_CHOWN",
    "CAP_SYS_PTRACE",
    "CAP_SYS_CHROOT",
    "CAP_SETUID",
    "CAP_SETGID",
    "CAP_MKNOD",
]


@pytest.fixture
def hostile(scratch: Path) -> Path:
    """A root filesystem with nothing but the attack."""
    rootfs = scratch / "hostile"
    rootfs.mkdir()
    attack.plant(rootfs, PYTHON)
    return rootfs


@pytest.fixture
def python(scratch: Path) -> Path:
    """A copy of the interpreter: when the attack writes to it, no process runs it any more."""
    path = scratch / "bin" / PYTHON.name
    path.parent.mkdir()
    shutil.copy(PYTHON, path)
    (scratch / "lib").symlink_to(Path(sys.base_prefix) / "lib")
    return path


@pytest.fixture
def launcher(scratch: Path, python: Path) -> Path:
    """The launcher, patched to run enter.py."""
    plain = scratch / "plain"
    build.build(plain)
    path = scratch / "launcher"
    path.write_bytes(program.patch(plain.read_bytes(), str(python), str(HERE / "enter.py")))
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def _untouched() -> Iterator[None]:
    """The host's interpreter is the same before and after."""
    before = hashlib.sha256(PYTHON.read_bytes()).digest()
    yield
    assert hashlib.sha256(PYTHON.read_bytes()).digest() == before


def _run(command: list[str], **popen: object) -> Completed:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30, **popen)  # type: ignore[call-overload,no-any-return]


def _is_safe(result: Completed) -> bool:
    assert result.returncode in (0, 1), result
    assert "handle to" in result.stdout, result  # the attack did run
    return result.returncode == 0 and "VULNERABLE" not in result.stdout


@pytest.mark.parametrize("entry", attack.ENTRIES)
def test_the_attack_works_on_an_unsealed_interpreter(entry: str, hostile: Path, python: Path) -> None:
    """Otherwise the other tests would prove nothing."""
    result = _run([str(python), "-ISB", str(HERE / "enter.py"), str(hostile), attack.ENTRIES[entry]])
    assert "seal: none" in result.stdout
    assert not _is_safe(result)


@pytest.mark.parametrize("entry", attack.ENTRIES)
def test_the_launcher_seals(entry: str, hostile: Path, launcher: Path) -> None:
    result = _run([str(launcher), str(hostile), attack.ENTRIES[entry]])
    assert "seal: tree" in result.stdout, result
    assert "read-only mount" in result.stdout
    assert "busy" not in result.stdout
    assert _is_safe(result), result.stdout


@pytest.mark.parametrize("method", ["tree", "memfd"])
@pytest.mark.parametrize("entry", attack.ENTRIES)
def test_python_seals_itself(method: str, entry: str, hostile: Path, python: Path) -> None:
    command = [str(python), "-ISB", str(HERE / "ladder.py"), method, str(hostile), attack.ENTRIES[entry]]
    result = _run(command)
    assert f"seal: {method}" in result.stdout, result
    assert "busy" not in result.stdout
    assert _is_safe(result), result.stdout


def test_a_private_copy_is_the_process_s_own(hostile: Path) -> None:
    """The last resort: what the handle leads to has no name, and is not what the host runs."""
    command = [str(PYTHON), "-ISB", str(HERE / "ladder.py"), "copy", str(hostile), attack.ENTRIES["itself"]]
    result = _run(command)
    assert "seal: copy" in result.stdout, result
    assert "writable mount" in result.stdout


@pytest.mark.parametrize("entry", attack.ENTRIES)
@pytest.mark.parametrize("capabilities", ["default", "all"])
def test_an_image_cannot_attack_the_runtime(entry: str, capabilities: str, bundle: Bundle, runtime: Runtime) -> None:
    attack.plant(bundle.rootfs, PYTHON)
    bundle.set("process.args", [attack.ENTRIES[entry]])
    bundle.set("process.noNewPrivileges", False)
    if capabilities == "all":
        sets = {name: ALL_CAPABILITIES for name in ("bounding", "effective", "permitted")}
        bundle.set("process.capabilities", sets)
    result = runtime.run(bundle)
    assert _is_safe(result), result


def test_a_claim_is_no_proof(bundle: Bundle, runtime: Runtime) -> None:
    """``-X gosudacon=tree`` on the command line of an interpreter that was not sealed."""
    main = HERE.parents[1] / "gosudacon/__main__.py"
    for claim in ("tree", "memfd", "copy", "other"):
        command = [str(PYTHON), "-ISB", f"-Xgosudacon={claim}", str(main)]
        forged = Runtime(command, runtime.root)
        result = forged.run(bundle, check=False)
        assert result.returncode == 1
        assert "seal" in result.stderr
        assert not result.stdout


def test_a_read_only_directory_is_no_seal(scratch: Path) -> None:
    """A read-only mount that has a path can be made writable again while a process holds a handle."""
    script = f"""
import os, sys
sys.path.append({str(HERE.parents[1])!r})
from gosudacon.linux import mount, namespace
namespace.unshare(0x00020000)
mount.mount(None, "/", None, mount.MS_REC | mount.MS_PRIVATE)
mount.mount({str(scratch)!r}, {str(scratch)!r}, None, mount.MS_BIND)
mount.mount(None, {str(scratch)!r}, None, mount.MS_BIND | mount.MS_REMOUNT | mount.MS_RDONLY)
code = "from gosudacon.launcher import seal; print(seal.verified())"
code = "import sys; sys.path.append({str(HERE.parents[1])!r}); " + code
os.execv({str(scratch / "python")!r}, [{str(PYTHON)!r}, "-ISB", "-Xgosudacon=tree", "-c", code])
"""
    shutil.copy(PYTHON, scratch / "python")
    result = _run([str(PYTHON), "-ISB", "-c", script])
    assert (result.returncode, result.stdout.strip()) == (0, ""), result
