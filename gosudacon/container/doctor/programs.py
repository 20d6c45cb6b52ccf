"""The program itself: how it is sealed, its configuration, and the programs and libraries that it uses."""

from __future__ import annotations

import sys

from gosudacon.base.errors import Error
from gosudacon.base.posix import geteuid
from gosudacon.container.criu import service as criu
from gosudacon.container.doctor.report import FAILS, LESS, OK, Row
from gosudacon.launcher import seal
from gosudacon.pipeline.registry import CONFIG, registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_AREA = "program"


def rows(config: str) -> Iterator[Row]:
    """Launcher, seal, configuration, libseccomp, CRIU."""
    yield _launcher()
    yield _seal()
    yield _configuration(config)
    yield _libseccomp()
    yield _criu()


def _launcher() -> Row:
    launched = "gosudacon" in sys._xoptions and "gosudacon-again" not in sys._xoptions
    advice = "`gosudacon install` as root: each create is 5 to 10 ms faster, and engines find it"
    return Row(_AREA, "launcher", OK if launched else LESS, "started by it" if launched else "started without", advice)


def _seal() -> Row:
    """How this command is sealed, or how one that enters a container would be, by trying it."""
    method, failures = seal.verified(), [""]
    if not method:
        method, failures = seal.possible()
    if not method:
        return Row(_AREA, "seal", FAILS, "; ".join(failures), "a kernel with memfd_create(2), or a writable /tmp")
    advice = "Linux 5.12 and CAP_SYS_ADMIN: each command copies the interpreter"
    return Row(_AREA, "seal", OK if method == "tree" or geteuid() != 0 else LESS, method, advice)


def _configuration(config: str) -> Row:
    path = config or CONFIG
    try:
        stages = registry(config, use_snapshot=False)
    except (Error, OSError) as error:
        return Row(_AREA, "configuration", FAILS, str(error), f"correct {path}; `gosudacon plugin list` has more")
    plugins = list(stages.data["plugins"])
    return Row(_AREA, "configuration", OK, f"{path}: plugins {', '.join(plugins)}" if plugins else "no plugins")


def _libseccomp() -> Row:
    from ctypes import CDLL

    try:
        CDLL("libseccomp.so.2")
    except OSError:
        return Row(
            _AREA, "libseccomp", LESS, "not installed", "seccomp profiles cannot be compiled: install libseccomp2"
        )
    return Row(_AREA, "libseccomp", OK, "libseccomp.so.2")


def _criu() -> Row:
    advice = "checkpoint and restore do not work without it"
    try:
        path = criu.find()
    except Error as error:
        return Row(_AREA, "CRIU", LESS, error.message, advice)
    problem = criu.problem() if geteuid() == 0 else ""
    return Row(_AREA, "CRIU", LESS if problem else OK, problem or path, advice)
