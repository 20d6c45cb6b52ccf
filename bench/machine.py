"""Where and with what a run was made."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path

from . import layout
from .runtimes import Runtime


def facts() -> dict[str, object]:
    """What a reader must know about the machine to compare figures."""
    return {
        "kernel": platform.release(),
        "machine": platform.machine(),
        "processors": len(os.sched_getaffinity(0)),
        "model": _model(),
        "cgroups": layout.layout(layout.mounts()),
        "load": list(os.getloadavg()),
    }


def describe(found: dict[str, object], runtimes: Sequence[Runtime]) -> list[str]:
    """The facts and the runtimes, a line each."""
    lines = [
        f"kernel {found['kernel']} {found['machine']}, {found['processors']} processors ({found['model']}), "
        f"cgroups {found['cgroups']}"
    ]
    for one in runtimes:
        lines.append(f"{one.name}: {' '.join(one.command)} ({one.version or 'no --version'})")
    return lines


def _model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown"
