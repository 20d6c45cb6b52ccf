"""State directories as released versions wrote them: taken from a container, and laid around one of today's.

A sample is a file ``tests/states/RELEASE/LAYOUT-SCENARIO.json``: the files of the directory, with words such as
``@ID@`` for what differs from one to the next. ``LAYOUT`` says who makes cgroups: ``hybrid``, ``v2``, ``systemd``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gosudacon.pipeline.kinds import KINDS
from tests.support import cgroups
from tests.support.runtime import CHECKOUT

SAMPLES = Path(__file__).parents[1] / "states"
NOTES = ("cgroups.json", "cgroups.note")  # of one object, and of a line for each


def layout() -> str:
    """The layout of samples that this machine can have."""
    mode = cgroups.mode()
    return "systemd" if mode == "v2" and Path("/run/systemd/system").is_dir() else mode


def samples() -> list[Path]:
    """All samples of all releases."""
    return sorted(SAMPLES.glob("*/*.json"))


def take(directory: Path, words: Mapping[str, str], book: Path) -> dict[str, Any]:
    """The sample of a state directory, and of the network's ``book``; ``words`` take the place of strings."""
    files: dict[str, Any] = {}
    for path in sorted(directory.iterdir()):
        kind = stat.S_IFMT(path.lstat().st_mode)
        files[path.name] = {stat.S_IFSOCK: "socket", stat.S_IFDIR: "directory"}.get(kind) or _parsed(path)
    if files["state.json"]["pid"]:
        files["state.json"].update(pid="@PID@", start_time="@START@")
    for name in NOTES:
        for inodes in _inodes(files.get(name)):
            inodes.update({path: "@INODE@" for path, inode in inodes.items() if inode})
    sample: dict[str, Any] = {"files": files}
    if book.exists():
        sample["book"] = _parsed(book)
        for lease in sample["book"]["leases"].values():
            lease["owner"] = "@OWNER@"
    return _object(_replaced(sample, {value: word for word, value in words.items()}))


def lay(sample: Mapping[str, Any], directory: Path, words: Mapping[str, str], book: Path) -> None:
    """Replace the files of a container that today's code has made with the sample's."""
    today = json.loads((directory / "state.json").read_text())
    files = _replaced(sample["files"], words)
    assert {path.name for path in directory.iterdir()} >= {name for name in files if isinstance(files[name], str)}
    if files["state.json"]["pid"]:
        files["state.json"].update(pid=today["pid"], start_time=today["start_time"])
    for name in NOTES:
        for inodes in _inodes(files.get(name)):
            inodes.update(
                {path: os.stat(path).st_ino for path, inode in inodes.items() if inode and os.path.exists(path)}
            )
    for path in directory.iterdir():
        if path.is_file():
            path.unlink()
    for name, content in files.items():
        if isinstance(content, dict):
            (directory / name).write_text(json.dumps(content))
        if isinstance(content, list):
            (directory / name).write_text("".join(json.dumps(line) + "\n" for line in content))
    if "book" in sample:
        leases = _parsed(book)["leases"]
        old = _object(_replaced(sample["book"], words))
        for link, lease in old["leases"].items():
            lease.update(owner=leases[link]["owner"], addresses=leases[link]["addresses"])
        book.write_text(json.dumps(old))


def _object(value: Any) -> dict[str, Any]:
    assert isinstance(value, dict)
    return value


def _parsed(path: Path) -> Any:
    if path.suffix == ".note":
        return [json.loads(line) for line in path.read_text().splitlines()]
    return json.loads(path.read_text() or "{}")


def _inodes(note: Any) -> list[dict[str, Any]]:
    """The maps from cgroups to inodes that are in a note."""
    return [inodes for line in note for inodes in line.values()] if isinstance(note, list) else [note or {}]


def _replaced(value: Any, words: Mapping[str, str]) -> Any:
    text = json.dumps(value)
    for old in sorted(words, key=len, reverse=True):
        text = text.replace(old, words[old])
    return json.loads(text)


def moved(target: Path) -> Path:
    """A copy of this checkout's package in which every module and class that 0.1.0 named on disk has another name."""
    shutil.copytree(CHECKOUT / "gosudacon", target / "gosudacon", ignore=shutil.ignore_patterns("__pycache__"))
    places = [place.split(":") for place in KINDS.values()]
    words = {module: f"{module}_moved" for module, _ in places} | {name: f"Moved{name}" for _, name in places}
    pattern = re.compile(rf"\b({'|'.join(map(re.escape, words))})\b")
    for path in target.glob("gosudacon/**/*.py"):
        if path.name != "former.py":
            path.write_text(pattern.sub(lambda match: words[match[1]], path.read_text()))
    for module in {module for module, _ in places}:
        path = target / module.replace(".", "/")
        path = path if path.is_dir() else path.with_suffix(".py")
        path.rename(path.with_stem(f"{path.stem}_moved"))
    return target
