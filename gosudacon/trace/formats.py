"""The formats of a trace's file, by its suffix."""

from __future__ import annotations

import os

from gosudacon.base.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from gosudacon.trace.model import Trace

NAMES = {
    ".json": "chrome",
    ".jsonl": "otlp",
    ".svg": "svg",
    ".html": "page",
}


def writer(path: str) -> Callable[[Trace], str]:
    """What makes the content of a file of the format that the suffix names. Raises `Error` for one that none has."""
    name = NAMES.get(os.path.splitext(path)[1])
    if name is None:
        raise Error(f"--trace {path}: the name of the file must end in {', '.join(NAMES)}")
    # By hand: a command that is traced imports one of them.
    module = __import__(f"gosudacon.trace.{name}", fromlist=("dumps",))
    made: Callable[[Trace], str] = module.dumps
    return made
