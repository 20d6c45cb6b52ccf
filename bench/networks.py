"""What a network costs: the same gosudacon with and without the plugin network, as runtimes of the timed table.

The bench moves into a network namespace of its own, so that neither bridge nor rules are those of the host. Every
container is the first and the last one on its bridge, which is the dearest case: bridge and rules are made and removed
each time.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from . import kernel
from .runtimes import Runtime

#: Name of the runtime -> its settings.
_SETTINGS = {"+network": "", "+nat": "nat = true\n"}
_NEW_NETWORK = 0x40000000  # CLONE_NEWNET


@contextmanager
def beside(plain: Runtime) -> Iterator[list[Runtime]]:
    """The runtime, and the same with the plugin; while this lasts, they are in another network namespace."""
    with TemporaryDirectory(prefix="gosudacon-bench-") as folder:
        kernel.unshare(_NEW_NETWORK)
        yield [plain, *(_with(plain, name, text, Path(folder)) for name, text in _SETTINGS.items())]


def _with(plain: Runtime, name: str, text: str, folder: Path) -> Runtime:
    config = folder / f"{name[1:]}.toml"
    config.write_text(f'plugins = ["network"]\n[stage.network]\nleases = "{folder}/leases{name}"\n{text}')
    os.chmod(config, 0o644)
    command = (*plain.command, "--config-file", str(config))
    return dataclasses.replace(plain, name=plain.name + name, command=command)
