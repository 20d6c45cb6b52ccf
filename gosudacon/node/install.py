"""One pass of the installation: the program, the fleet's configuration, the engine's."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from gosudacon.base.errors import Error
from gosudacon.node import places, versions
from gosudacon.node.engines import Engine
from gosudacon.node.files import Node, Record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.node.engines import Texts

    #: Whether a version of the program can use a configuration: what is wrong, empty if nothing is.
    Check = Callable[[Path, str], str]
    #: A connection to what restarts the engine. Raises `Error`.
    Connect = Callable[[], "Manager"]

_PATIENCE = 60.0  # seconds


class Manager(Protocol):
    """A connection to the node's service manager, as `gosudacon.wire.systemd.Manager`."""

    def __enter__(self) -> Manager: ...

    def __exit__(self, *_: object) -> None: ...

    def restart(self, unit: str) -> None:
        """Restart a unit; returns when it is up. Raises `Error`."""


@dataclass(frozen=True)
class Image:
    """What the image has: the version ``name`` at ``source``."""

    name: str
    source: Path


@dataclass
class Outcome:
    """The result of a pass: whether pods may ``come``, what was ``done``, what is wrong, and what is waited for."""

    come: bool = False
    done: list[str] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)
    waits: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Installation:
    """The node, its engine, what the image has, and the fleet's configuration (None: the node keeps its own).

    ``check`` and ``connect`` are for the two things that are done by other programs.
    """

    node: Node
    engine: Engine
    image: Image
    fleet: str | None
    check: Check
    connect: Connect

    def run(self) -> Outcome:
        """Install everything. Raises `Error` if that is not possible, OSError; what was done stays then."""
        outcome = Outcome()
        record = Record.load(self.node)
        record.note_folders(places.PREFIX)
        self.node.prefix.mkdir(parents=True, exist_ok=True)
        present = versions.current(self.node)
        for name in versions.prune(self.node, {present, self.image.name}):
            outcome.done.append(f"removed version {name}, which nothing runs from any more")
        wanted = self.engine.wanted(self.node)  # first, since it refuses nodes that are not fit
        program = versions.copy(self.image.source, self.image.name, self.node)
        usable = self._configure(record, program, outcome)
        if usable and present != self.image.name:
            versions.switch(self.image.name, self.node)
            outcome.done.append(f"version {self.image.name} in place of {present or 'none'}")
        versions.retire(self.node, {versions.current(self.node)})
        if versions.current(self.node):
            tell(self.engine, wanted, record, self.connect, outcome)
            outcome.come = True
        return outcome

    def _configure(self, record: Record, program: Path, outcome: Outcome) -> bool:
        """Put the fleet's configuration in place if it is right. Whether ``program`` can use what is in place then."""
        present = self.node.read(places.CONFIG)
        wanted = self.fleet
        if wanted is None:
            wanted = record.former if record.fleet else present
        if wanted != present and not (problem := self._problem(record, program, wanted)):
            self._replace(record, wanted)
            outcome.done.append(f"{places.CONFIG} is the fleet's" if record.fleet else f"{places.CONFIG} is the node's")
            return True
        is_new = program.name != versions.current(self.node)
        if wanted == present and (not is_new or not (problem := self._problem(record, program, present))):
            return True
        outcome.trouble.append(f"configuration refused: {problem}")
        # The former one is kept; whether the new program can use it decides whether that takes the old one's place.
        # A node that never had the fleet's gets no program: its rules have to be there before the first pod is.
        return wanted != present and record.fleet and is_new and not self._problem(None, program, present)

    def _problem(self, record: Record | None, program: Path, text: str | None) -> str:
        """What is wrong with the text, looked up in ``record`` if it was wrong the last time, too."""
        if text is None:
            return ""
        if record is not None and record.rejected[:2] == [program.name, text]:
            return record.rejected[2]
        problem = self._checked(program, text)
        if record is not None:
            record.rejected = [program.name, text, problem] if problem else []
            record.save()
        return problem

    def _checked(self, program: Path, text: str) -> str:
        draft = self.node.prefix / "config.toml"
        replace(draft, text)
        try:
            place = f"{places.PREFIX}/{draft.name}"
            return self.check(program, place).replace(place, draft.name)
        finally:
            draft.unlink()

    def _replace(self, record: Record, text: str | None) -> None:
        if self.fleet is not None and not record.fleet:
            record.former, record.fleet = self.node.read(places.CONFIG), True
            record.save()
        record.put({places.CONFIG: text})
        if self.fleet is None:
            record.former, record.fleet = None, False
            record.save()


def said(error: Error) -> str:
    """Message and hint in one line."""
    return f"{error.message}; {error.hint}" if error.hint else error.message


def tell(engine: Engine, wanted: Texts, record: Record, connect: Connect, outcome: Outcome) -> None:
    """Write the engine's files and restart it, if they are not as ``wanted``.

    If it does not start with them, the former ones are restored. Raises `Error` then, OSError.
    """
    before = {name: record.node.read(name) for name in wanted}
    if wanted == record.refused:
        if record.unit:  # the way back was cut off, or failed
            with connect() as manager:
                _take_back(record, manager)
        raise Error(f"{engine.name} did not start with the runtime in its configuration; that was taken back")
    if wanted == before and not record.unit:
        return
    with connect() as manager:  # before anything is written
        if wanted != before:
            record.unit, record.before = engine.unit, before
            record.save()
            record.put(wanted)
        try:
            manager.restart(record.unit)
        except Error as error:
            record.refused = dict(wanted)
            _take_back(record, manager)
            raise Error(f"{error.message}; its former configuration is back", hint=error.hint) from error
    outcome.done.append(f"restarted {record.unit}, which has read {', '.join(wanted)}")
    record.unit, record.before, record.refused = "", {}, {}
    record.save()


def _take_back(record: Record, manager: Manager) -> None:
    """Give the engine the files that it had, and restart it. Raises `Error` if it does not come up, OSError."""
    record.put(record.before)
    manager.restart(record.unit)
    record.unit, record.before = "", {}
    record.save()


def check(program: Path, path: str) -> str:
    """What is wrong with the configuration at ``path`` for the version at ``program``; empty if nothing is.

    Raises `Error` if the check does not come to its end: that says nothing about the configuration.
    """
    (package,) = program.glob("lib/gosudacon/gosudacon.*/packages")
    (python,) = (program / places.PYTHON / "bin").glob("python3.*")
    others = [str(path) for path in (program / places.PYTHON).glob("**/*-packages") if path.is_dir()]
    words = [str(python), "-ISBXutf8", f"{package}/gosudacon/node/check.py", path, str(package), *others]
    try:
        result = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        raise Error(f"the check of the configuration takes longer than {_PATIENCE:.0f} seconds") from None
    if result.returncode < 0:
        raise Error(f"the check of the configuration was ended by signal {-result.returncode}")
    text = result.stdout.strip() or result.stderr.strip()
    return "" if result.returncode == 0 else text.splitlines()[-1] if text else "it cannot be checked"
