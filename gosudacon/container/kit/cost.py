"""What the imports of a plugin add to ``create``, in milliseconds.

A fresh interpreter is started as the launcher starts one (isolated, without site, without writing bytecode), imports
what ``create`` imports where plugins are enabled, and then, between two looks at the clocks, the modules of the plugin
that the engine would import. The first start is not counted, since it fills the page cache. The result is the median.
What a plugin imports while it runs is not in it. `plugin list` shows it, and `python -m bench --plugins`.
"""

from __future__ import annotations

import os
import subprocess
import sys

from gosudacon.base.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gosudacon.container.kit.plugins import Cost

STARTS = 5
_PROGRAM = """
import sys
cut = sys.argv.index("--")
sys.path[:] = sys.argv[1:cut]
import gosudacon.api, gosudacon.cli.create, gosudacon.pipeline.plugins, gosudacon.schema.verdict
from time import perf_counter_ns, process_time_ns
known, wall, used = len(sys.modules), perf_counter_ns(), process_time_ns()
for name in sys.argv[cut + 1:]:
    __import__(name)
print(perf_counter_ns() - wall, process_time_ns() - used, len(sys.modules) - known)
"""
_LIMIT = 60  # seconds for one start


def measure(modules: Sequence[str]) -> Cost:
    """The cost of importing ``modules``. Raises `Error` if one of them cannot be imported."""
    return compare({"": modules})[""]


def compare(plugins: Mapping[str, Sequence[str]], starts: int = STARTS) -> dict[str, Cost]:
    """The cost of each of ``plugins`` (name -> its modules), measured in turn, ``starts`` times.

    Raises `Error` if a module cannot be imported.
    """
    samples: dict[str, list[tuple[int, int, int]]] = {name: [] for name in plugins}
    for _ in range(starts + 1):
        for name, modules in plugins.items():
            samples[name].append(_start(modules))
    return {name: _cost(found[1:]) for name, found in samples.items()}


def _cost(samples: list[tuple[int, int, int]]) -> Cost:
    wall, used, counts = (sorted(column)[len(column) // 2] for column in zip(*samples, strict=True))
    return {
        "milliseconds": round(wall / 1e6, 2),
        "processor_milliseconds": round(used / 1e6, 2),
        "modules": counts,
        "starts": len(samples),
    }


def _start(modules: Sequence[str]) -> tuple[int, int, int]:
    """Nanoseconds by the clock, nanoseconds of a processor, and modules, of one start."""
    command = [os.path.realpath(sys.executable), "-ISB", "-Xutf8", "-c", _PROGRAM, *sys.path, "--", *modules]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_LIMIT)
    except subprocess.TimeoutExpired as error:
        raise Error(f"importing {', '.join(modules)} takes more than {_LIMIT} seconds") from error
    if result.returncode != 0:
        last = (result.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise Error(f"cannot import {', '.join(modules)}: {last}")
    wall, used, count = result.stdout.split()[-3:]  # a plugin may print, too
    return int(wall), int(used), int(count)
