"""An image full of code and data that the interpreter, its libraries and the C library would load by name.

Everything in it that is loaded makes ``/marker``; where files of ours would be, there are FIFOs to wait on for ever.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.security import programs
from tests.support.bundle import Bundle
from tests.support.needs import needs
from tests.support.runtime import CHECKOUT, Runtime, messages

pytestmark = needs("compiler")

Bundles = Callable[..., Bundle]

PYTHON = os.path.realpath(sys.executable)
CODE = "import posix; posix.close(posix.open('/marker', posix.O_WRONLY | posix.O_CREAT))\n"
LIBRARIES = [
    *("libnss_files.so.2", "libnss_compat.so.2", "libnss_dns.so.2", "libnss_systemd.so.2", "libnss_decoy.so.2"),
    *("libgcc_s.so.1", "libseccomp.so.2", "libffi.so.8", "libz.so.1", "libexpat.so.1", "libcrypto.so.3", "libdl.so.2"),
]
CODECS = ("idna", "punycode", "latin_1", "ascii", "utf_8", "cp437")


@pytest.fixture(scope="module")
def library(session_scratch: Path) -> Path:
    return programs.build("decoy", session_scratch / "decoy.so", "-shared", "-fPIC")


def fill(rootfs: Path, library: Path, runtime: Runtime) -> None:
    """Put decoys wherever a process might look."""
    stdlib = sysconfig.get_paths()["stdlib"]
    for directory in {stdlib, os.path.realpath(stdlib), "/usr/lib/python3/dist-packages"}:
        place = rootfs / directory.lstrip("/")
        (place / "encodings").mkdir(parents=True, exist_ok=True)
        (place / "lib-dynload").mkdir(exist_ok=True)
        for name in sys.stdlib_module_names | {"gosudacon", "pluggy", "sitecustomize", "usercustomize"}:
            if name not in ("encodings", "posix"):
                (place / f"{name}.py").write_text(CODE)
        for name in CODECS:
            (place / "encodings" / f"{name}.py").write_text(CODE)
        for name in ("_json", "_ctypes", "_posixsubprocess", "grp", "_socket", "fcntl", "select", "termios"):
            suffix = sysconfig.get_config_var("EXT_SUFFIX")
            (place / "lib-dynload" / f"{name}{suffix}").write_bytes(library.read_bytes())
    multiarch = sysconfig.get_config_var("MULTIARCH") or ""
    for directory in ("lib", f"lib/{multiarch}", "usr/lib", f"usr/lib/{multiarch}", "lib64"):
        (rootfs / directory).mkdir(parents=True, exist_ok=True)
        for name in LIBRARIES:
            (rootfs / directory / name).write_bytes(library.read_bytes())
    (rootfs / "etc/nsswitch.conf").write_text("passwd: decoy\ngroup: decoy\nhosts: decoy\ninitgroups: decoy\n")
    (rootfs / "etc/ld.so.preload").write_text("/lib/libgcc_s.so.1\n")
    (rootfs / f"usr/lib/{multiarch}/gconv").mkdir(exist_ok=True)
    (rootfs / f"usr/lib/{multiarch}/gconv/gconv-modules").write_text("module ASCII// INTERNAL /lib/libgcc_s 1\n")
    for path in files_of(runtime):
        place = rootfs / str(path).lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            os.mkfifo(place)


def files_of(runtime: Runtime) -> Iterator[Path]:
    """The code of the runtime under test: of this checkout, or what an installed launcher runs."""
    yield from (CHECKOUT / "gosudacon").rglob("*.py")
    yield from CHECKOUT.glob("stages/**/*.py")
    for folder, name in (("base", "posix"), ("base", "errors"), ("linux", "abi")):
        yield CHECKOUT / f"gosudacon/{folder}/__pycache__/{name}.{sys.implementation.cache_tag}.pyc"
    for word in runtime.command:
        if os.path.isabs(word):
            builds = Path(word).resolve().parents[1] / "lib/gosudacon"
            yield from (each for each in builds.glob("*/*") if each.is_file())
            yield from builds.glob("*/packages/gosudacon/**/*.py")


@pytest.fixture
def hostile(make_bundle: Bundles, library: Path, runtime: Runtime) -> Bundle:
    """A bundle with that image, and a configuration that leaves no stage without work."""
    bundle = make_bundle(["true"])
    fill(bundle.rootfs, library, runtime)
    (bundle.rootfs / "file").touch()
    (bundle.rootfs / "garbage").write_bytes(b"\x7fELF garbage")
    (bundle.rootfs / "garbage").chmod(0o755)
    (bundle.rootfs / "startcontainer").write_text("#!/bin/sh\nexit 0\n")
    (bundle.rootfs / "startcontainer").chmod(0o755)
    bundle.set("hooks", {"startContainer": [{"path": "/startcontainer"}], "createContainer": [{"path": "/bin/true"}]})
    bundle.set("linux.seccomp", {"defaultAction": "SCMP_ACT_ALLOW"})
    bundle.set("linux.sysctl", {"net.ipv4.ip_forward": "1"})
    bundle.set("process.user", {"uid": 1000, "gid": 1000, "additionalGids": [29]})
    bundle.set("process.env", ["LANG=de_DE.ISO-8859-1", "LD_PRELOAD=/lib/libgcc_s.so.1", "PATH=/bin"])
    bundle.add_mount("/run", "tmpfs", "tmpfs", "tmpcopyup")
    return bundle


def in_root(rootfs: Path, before: str, code: str) -> None:
    """Run Python that leaves the host's root for the image's, as the runtime does, and minds nothing afterwards."""
    lines = [before, "import os, sys", f"os.chroot({str(rootfs)!r})", "os.chdir('/')"]
    lines += ["try:", f"    {code}", "except BaseException:", "    os._exit(0)"]
    subprocess.run([PYTHON, "-ISB", "-c", "\n".join(lines)], check=False, timeout=20, capture_output=True)


@pytest.mark.parametrize(
    ("before", "code"),
    [
        ("", "import wave"),
        ("", "'a'.encode('idna')"),
        ("import ctypes", "ctypes.CDLL('libseccomp.so.2')"),
        ("import pwd", "pwd.getpwnam('nobody')"),
        ("", "os.initgroups('nobody', 1)"),
        ("import socket", "socket.getaddrinfo('example.org', 80)"),
    ],
    ids=["import", "codec", "dlopen", "passwd", "groups", "hosts"],
)
def test_the_decoys_work(hostile: Bundle, before: str, code: str) -> None:
    """Otherwise the others would prove nothing."""
    in_root(hostile.rootfs, before, code)
    assert (hostile.rootfs / "marker").exists()


FAILURES: dict[str, dict[str, Any]] = {
    "none": {},
    "working directory": {"process": {"cwd": "/file"}},
    "no program": {"process": {"args": ["/nothing"]}},
    "no executable": {"process": {"args": ["/file"]}},
    "garbage": {"process": {"args": ["/garbage"]}},
    "hook": {"hooks": {"startContainer": [{"path": "/bin/false"}]}},
    "missing hook": {"hooks": {"startContainer": [{"path": "/nothing"}]}},
    "sysctl": {"linux": {"sysctl": {"net.ipv4.nothing": "1"}}},
    "arguments": {"process": {"args": ["true", "x" * 200_000]}},
    "text": {"process": {"args": ["/nöthing/日本"], "cwd": "/ü"}},
    "scheduler": {"process": {"scheduler": {"policy": "SCHED_DEADLINE", "runtime": 5, "deadline": 3, "period": 1}}},
}


@pytest.mark.parametrize("users", [False, True], ids=["", "user namespace"])
def test_nothing_of_it_is_loaded(runtime: Runtime, hostile: Bundle, users: bool) -> None:
    """By run or by create and start, whether it works or fails somewhere after the change of root."""
    if users:
        hostile.map_users()
    good = hostile.config_path.read_text()
    for name, change in FAILURES.items():
        hostile.config_path.write_text(good)
        hostile.config = json.loads(good)
        hostile.update(change)
        result = runtime.run(hostile, limit=10)
        assert (result.returncode == 0) == (name == "none"), (name, result)
        assert len(messages(result.stderr)) == (name != "none"), (name, result)
        assert not (hostile.rootfs / "marker").exists(), name


def test_nor_by_create_and_start(runtime: Runtime, hostile: Bundle) -> None:
    runtime.create(hostile, limit=10)
    pid = runtime.pid(hostile)
    runtime.start(hostile, limit=10)
    assert runtime.wait(pid) == 0
    runtime.delete(hostile)
    hostile.set("process.args", ["/garbage"])
    runtime.create(hostile, limit=10)
    assert runtime.start(hostile, check=False, limit=10).returncode == 1
    assert not (hostile.rootfs / "marker").exists()


@pytest.mark.parametrize("name", ["LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "PYTHONPATH", "GCONV_PATH", "LOCPATH"])
def test_environment_of_the_container(
    runtime: Runtime, bundle: Bundle, library: Path, scratch: Path, name: str
) -> None:
    """Not before the process is executed, for which it is meant; neither for hooks (CVE-2025-23266)."""
    place = scratch / "library.so"
    place.write_bytes(library.read_bytes())
    (bundle.rootfs / "library.so").write_bytes(library.read_bytes())
    (scratch / "json.py").write_text(f"open({str(scratch / 'marker')!r}, 'w')")
    bundle.set("process.env", ["PATH=/bin", f"{name}={place if name in ('LD_PRELOAD', 'LD_AUDIT') else scratch}"])
    bundle.set("process.args", ["true"])  # static: no dynamic loader looks at it
    bundle.set("hooks", {kind: [{"path": "/bin/true"}] for kind in ("createRuntime", "createContainer", "poststop")})
    runtime.run(bundle, check=True)
    assert not (scratch / "marker").exists() and not os.path.exists("/marker")
    assert not (bundle.rootfs / "marker").exists()
