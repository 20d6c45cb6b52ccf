"""State directories as released versions wrote them: taken from a container, and laid around one of today's.

A sample is a file ``tests/states/RELEASE/LAYOUT-SCENARIO.json``: the files of the directory, with words such as
``@ID@`` for what differs from one to the next. ``LAYOUT`` says who makes cgroups: ``hybrid``, ``v2``, ``systemd``.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support import cgroups

SAMPLES = Path(__file__).parents[1] / "states"
NOTE = "cgroups.json"


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
    files[NOTE] = dict.fromkeys(files[NOTE], "@INODE@")
    sample: dict[str, Any] = {"files": files}
    if book.exists():
        sample["book"] = _parsed(book)
        for lease in sample["book"]["leases"].values():
            lease["owner"] = "@OWNER@"
    return _object(_replaced(sample, {value: word for word, value in words.items()}))


def lay(sample: Mapping[str, Any], directory: Path, words: Mapping[str, str], book: Path) -> None:
    """Put the sample's files in the place of those of a container that today's code has made."""
    today = json.loads((directory / "state.json").read_text())
    files = _replaced(sample["files"], words)
    assert {path.name for path in directory.iterdir()} >= {name for name in files if not isinstance(files[name], dict)}
    if files["state.json"]["pid"]:
        files["state.json"].update(pid=today["pid"], start_time=today["start_time"])
    files[NOTE] = {path: os.stat(path).st_ino for path in files[NOTE] if os.path.exists(path)}
    for path in directory.iterdir():
        if path.is_file():
            path.unlink()
    for name, content in files.items():
        if isinstance(content, dict):
            (directory / name).write_text(json.dumps(content))
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
    return json.loads(path.read_text() or "{}")


def _replaced(value: Any, words: Mapping[str, str]) -> Any:
    text = json.dumps(value)
    for old in sorted(words, key=len, reverse=True):
        text = text.replace(old, words[old])
    return json.loads(text)
