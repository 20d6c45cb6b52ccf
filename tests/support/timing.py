"""Time limits and waiting; both stretch on a slow machine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

SLOWNESS = float(os.environ.get("GOSUDACON_TEST_SLOWNESS") or 1) * (15 if "VM_RUN" in os.environ else 1)
"""By what factor this machine is slower than an ordinary one that does nothing else; 15 for emulation (tests/vm)."""


def seconds(limit: float) -> float:
    """``limit`` seconds of an ordinary machine in seconds of this one."""
    return limit * SLOWNESS


def eventually(condition: Callable[[], T], limit: float = 10.0, what: str = "the condition") -> T:
    """Call ``condition`` until it returns something true, and return that.

    Raises AssertionError naming ``what`` after ``limit`` seconds (of an ordinary machine).
    """
    deadline = time.monotonic() + seconds(limit)
    pause = 0.002
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {seconds(limit):g} s; last value: {value!r}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)
