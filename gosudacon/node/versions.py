"""Versions of the program on the node: copied, switched in one step, removed when nothing runs from them."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from gosudacon.base import layout
from gosudacon.base.errors import Error
from gosudacon.launcher import builds
from gosudacon.node import places
from gosudacon.node.engines import Engine
from gosudacon.node.files import Node, Record


def copy(source: Path, name: str, node: Node) -> Path:
    """Put the version ``name`` of the image, which is at ``source``, next to the node's others. Returns its place.

    It is there as a whole, on disk, or not at all. Raises `Error` if it cannot be copied, OSError.
    """
    target = node.prefix / places.VERSIONS / name
    if target.is_dir():
        if not (shim := target / "bin" / places.SHIM).exists():  # it was replaced once, and is wanted again
            draft = shim.with_name(f".{shim.name}")
            shutil.copy2(source / "bin" / places.SHIM, draft)
            draft.replace(shim)
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    for draft in target.parent.glob(".draft-*"):  # of a pass that was killed
        shutil.rmtree(draft)
    draft = target.with_name(f".draft-{name}")
    try:
        shutil.copytree(source, draft, symlinks=True)
        builds.flush(draft)
        draft.rename(target)
    except shutil.Error as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise Error(f"cannot copy the program to {places.PREFIX}: {error.args[0][0][2]}") from error
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return target


def current(node: Node) -> str:
    """Name of the version that engines call; empty if no version is installed. Raises OSError."""
    try:
        return os.path.basename(os.readlink(node.prefix / places.CURRENT))
    except FileNotFoundError:
        return ""


def switch(name: str, node: Node) -> None:
    """Have engines call the version ``name`` from now on. Raises OSError."""
    draft = node.prefix / f".{places.CURRENT}"
    draft.unlink(missing_ok=True)
    draft.symlink_to(f"{places.VERSIONS}/{name}")
    draft.replace(node.prefix / places.CURRENT)


def retire(node: Node, kept: set[str]) -> None:
    """Take the shim's program out of the versions that are not ``kept``: their templates then end with their shims.

    Raises OSError.
    """
    shims = [version / "bin" / places.SHIM for version in (node.prefix / places.VERSIONS).glob("[!.]*")]
    stale = [shim for shim in shims if shim.parts[-3] not in kept and shim.exists()]
    for shim in stale:
        shim.unlink()
    if stale:
        _wake_templates(node)


def prune(node: Node, kept: set[str]) -> list[str]:
    """Remove the versions that nothing runs from, except those ``kept``; their names. Raises OSError.

    A template of shims names its version on its command line for as long as it has shims.
    """
    lines = [*_command_lines(node)]
    removed = []
    for version in sorted((node.prefix / places.VERSIONS).glob("[!.]*")):
        mark = os.fsencode(f"{places.PREFIX}/{places.VERSIONS}/{version.name}/lib/gosudacon/")
        if version.name not in kept and not any(mark in line for line in lines):
            shutil.rmtree(version)
            removed.append(version.name)
    return removed


def running(node: Node, engine: Engine) -> list[str]:
    """The containers that the engine has by the runtime, by the directories of their states. Raises OSError."""
    pattern = f"{layout.STATE_ROOT}/*" if engine.name == "cri-o" else f"{places.SHIM_STATES}/*/k8s.io/*"
    return sorted(path.name for path in node.root.glob(pattern.lstrip("/")) if path.is_dir())


def remove(node: Node, record: Record) -> bool:
    """Remove all that is in the prefix and the runtime's own directories; False if something still runs from it.

    Raises OSError.
    """
    (node.prefix / places.CURRENT).unlink(missing_ok=True)
    retire(node, set())
    prune(node, set())
    versions = node.prefix / places.VERSIONS
    if versions.is_dir() and any(versions.glob("[!.]*")):
        return False
    shutil.rmtree(node.prefix)
    record.remove_folders()
    shutil.rmtree(node.path(layout.CACHE), ignore_errors=True)
    states = [*node.root.glob(f"{places.SHIM_STATES}/*/*"[1:]), *node.root.glob(f"{places.SHIM_STATES}/*"[1:])]
    for path in [*states, *map(node.path, (places.SHIM_STATES, layout.STATE_ROOT, layout.TEMPLATES))]:
        with suppress(OSError):
            path.rmdir()
    return True


def _wake_templates(node: Node) -> None:
    """A template looks whether it is needed after each connection, otherwise twice a minute."""
    for path in node.path(layout.TEMPLATES).glob("*"):
        with suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1)  # seconds; without it, connect(2) waits where the backlog is full
            connection.connect(str(path))


def _command_lines(node: Node) -> Iterator[bytes]:
    for path in node.path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            yield path.read_bytes()
