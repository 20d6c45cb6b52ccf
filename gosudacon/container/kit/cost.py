"""What the imports of a plugin add to ``create``, in milliseconds.

A fresh interpreter is started as the launcher starts one (isolated, without site, without writing bytecode), imports
what ``create`` imports where plugins are enabled, and then, between two looks at the clock, the modules of the plugin
that the engine would import. The first start is not counted, since it fills the page cache. The result is the median.
What a plugin imports while it runs is not in it.
"""

from __future__ import annotations

import os
import subprocess
import sys

from gosudacon.base.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from gosudacon.container.kit.plugins import Cost

STARTS = 5
_PROGRAM = """
import sys
cut = sys.argv.index("--")
sys.path[:] = sys.argv[1:cut]
import gosudacon.api, gosudacon.cli.create, gosudacon.pipeline.plugins, gosudacon.schema.verdict
from time import perf_counter_ns
known, begin = len(sys.modules), perf_counter_ns()
for name in sys.argv[cut + 1:]:
    __import__(name)
print(perf_counter_ns() - begin, len(sys.modules) - known)
"""
_LIMIT = 60  # seconds for one start


def measure(modules: Sequence[str]) -> Cost:
    """The cost of importing ``modules``. Raises `Error` if one of them cannot be imported."""
    found = sorted(_start(modules) for _ in range(STARTS + 1))[:STARTS]
    nanoseconds, count = found[len(found) // 2]
    return {"milliseconds": round(nanoseconds / 1e6, 2), "modules": count, "starts": STARTS}


def _start(modules: Sequence[str]) -> tuple[int, int]:
    command = [os.path.realpath(sys.executable), "-ISB", "-Xutf8", "-c", _PROGRAM, *sys.path, "--", *modules]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_LIMIT)
    except subprocess.TimeoutExpired as error:
        raise Error(f"importing {', '.join(modules)} takes more than {_LIMIT} seconds") from error
    if result.returncode != 0:
        last = (result.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise Error(f"cannot import {', '.join(modules)}: {last}")
    nanoseconds, count = result.stdout.split()[-2:]  # a plugin may print, too
    return int(nanoseconds), int(count)
