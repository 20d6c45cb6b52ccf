"""A plan as `gosudacon.pages` shows it: its steps, and the place of each in the file that asked for it."""

from __future__ import annotations

import os
import stat

from gosudacon import __version__
from gosudacon.base import jsonio
from gosudacon.container import diagnosis, shared
from gosudacon.pages.view import Edit, Note, Place, Row, Share, View
from gosudacon.pipeline import docstrings
from gosudacon.pipeline.explain import describe_host
from gosudacon.pipeline.spec import EXEC
from gosudacon.pipeline.step import CONTAINER, ORDER, START
from gosudacon.schema.positions import Positions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gosudacon.container.explain import Explanation
    from gosudacon.pipeline.explain import Timings
    from gosudacon.pipeline.spec import Spec
    from gosudacon.pipeline.step import Step


def view(
    explanation: Explanation,
    stages: Sequence[str] = (),
    timings: Timings | None = None,
    long: bool = False,
    verdicts: Mapping[int, str] | None = None,
) -> View:
    """What a page about the plan shows; ``stages``: those whose steps are wanted, none for all.

    ``long``: with why each is done.
    ``timings``: what was measured of them, ``verdicts`` what an audit says of them, by their index in the plan.
    """
    file = _File(explanation.spec, explanation.file)
    plan, spec = explanation.plan, explanation.spec
    rows = [_row(step, file, long) for step in plan.steps]
    for row, step, data in zip(rows, plan.steps, plan.to_json(), strict=True):
        waits = data.get("waits_for")
        row.waits = waits if isinstance(waits, int) else -1
        if timings is not None:
            row.waited = timings.waits.get((row.side, row.waits), -1e9) / 1e9
        change = plan.edits.author(step.where) if plan.edits is not None and step.edited_by else None
        row.edit = plan.edits.index(change) if plan.edits is not None and change is not None else -1
    _begin(rows, plan.steps)
    for index, taken in (timings.steps if timings is not None else {}).items():
        rows[index].seconds = taken["ns"] / 1e9
    for index, verdict in (verdicts or {}).items():
        rows[index].verdict = verdict
    made = View(spec.id, os.path.basename(explanation.file), file.text, _only(rows, stages))
    made.timed_by = timings.title if timings is not None else ""
    made.about = [f"bundle {spec.bundle}", f"{describe_host(explanation.host)}, gosudacon {__version__}"]
    made.about[1:1] = explanation.head()
    made.risk, made.topics = explanation.risk(), list(shared.topics(spec)) if not stages else []
    for reason in explanation.shared if not stages else ():
        place = file.place(reason.where)
        made.shared.append(Share(reason.topic, reason.level, reason.what, reason.why, place))
    made.notes = _notes(explanation, file, stages, timings)
    for edit in (change.to_json() for change in plan.edits or ()):
        values = [jsonio.dumps(edit[name]) if name in edit else "" for name in ("before", "after")]
        made.edits.append(Edit(edit["plugin"], edit["what"], edit["path"], *values))
    return made


def _row(step: Step, file: _File, long: bool) -> Row:
    place = Place(step.where) if step.edited_by else file.place(step.where)
    row = Row(step.runs_on(), step.phase, step.stage, step.describe(), place, type(step).__name__)
    row.details = step.details()
    if long:
        said = docstrings.about(type(step))
        labelled = (("Why", said.why), ("Without it", said.without), ("See", said.see))
        row.about = [*said.paragraphs(), *(f"{label}: {words}" for label, words in labelled if words)]
    row.lasts, row.edited_by, row.late = step.lasts, step.edited_by, ORDER[step.phase] > ORDER[START]
    return row


def _begin(rows: Sequence[Row], steps: Sequence[Step]) -> None:
    """The first step of the process that a step has made begins then: an arrow as that of a barrier."""
    spawn = next((index for index, step in enumerate(steps) if step.spawns), len(steps))
    first = next((row for row in rows[spawn + 1 :] if row.side == CONTAINER), None)
    if first is not None and first.waits < 0:
        first.waits, first.begins = spawn, True


def _only(rows: Sequence[Row], stages: Sequence[str]) -> list[Row]:
    """The rows of some stages, with the barriers that are between them."""
    kept = [index for index, row in enumerate(rows) if not stages or row.stage in stages]
    at = {index: number for number, index in enumerate(kept)}
    for index in kept:
        rows[index].waits = at.get(rows[index].waits, -1)
        rows[index].begins = rows[index].begins and rows[index].waits >= 0
    return [rows[index] for index in kept]


def _notes(explanation: Explanation, file: _File, stages: Sequence[str], timings: Timings | None) -> list[Note]:
    plan, host = explanation.plan, explanation.host
    notes = [Note("finding", each.message, file.place(each.where), each.hint) for each in explanation.findings]
    for warning in plan.warnings:
        if not stages or warning.stage in stages:
            message = f"{warning.message} ({warning.edited_by})" if warning.edited_by else warning.message
            place = Place(warning.where) if warning.edited_by else file.place(warning.where)
            notes.append(Note("warning", message, place, stage=warning.stage))
    notes += [Note("amendment", text) for text in plan.amended]
    if timings is not None:
        failed = [(plan.steps[index], taken.get("message")) for index, taken in timings.steps.items()]
        notes += [Note("failure", f"{step.describe()}: {message}") for step, message in failed if message]
        notes += [Note("note", text) for text in timings.notes]
    return [*notes, *(Note("assumption", text) for text in host.assumed)]


class _File:
    """The text that the plan was made from, and places in it."""

    def __init__(self, spec: Spec, path: str) -> None:
        self._inside = ""  # what the file is of the configuration
        if spec.text is not None:
            self.text = spec.text.decode()
        elif spec.operation == EXEC:
            self._inside = "process"
            self.text = _read(path, spec.process)
        else:
            self._inside = "mounts"
            self.text = _read(path, spec.config.get("mounts") or [])
        self._value = jsonio.loads(self.text.encode())
        if self._inside == "mounts" and isinstance(self._value, dict):
            self._inside = ""
        self._positions = Positions(self.text)
        self._known: dict[str, Place] = {}

    def place(self, where: str) -> Place:
        """Where in the text a value of the configuration is; the innermost one around what is not there."""
        if where not in self._known:
            self._known[where] = self._find(where)
        return self._known[where]

    def _find(self, where: str) -> Place:
        inner = where
        if self._inside and where:
            inner = where.removeprefix(self._inside).removeprefix(".")
            if not where.startswith(self._inside):
                return Place(where)
        path = diagnosis.path_of(inner, self._value) if inner else ()
        found = self._positions.found(path)
        if not found:
            return Place(where)
        start = self._positions.name(found)
        line, _ = self._positions.line_column(start)
        return Place(where, start, self._positions.end(found), line, exact=found == path)


def _read(path: str, value: object) -> str:
    """The text of a file that has been read before; of a pipe, what came out of it, written anew."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return jsonio.dumps(value, 2)
    with open(descriptor, "rb") as file:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            data = file.read(jsonio.SIZE_LIMIT)
            try:
                jsonio.loads(data)
                return data.decode()
            except ValueError:
                pass
    return jsonio.dumps(value, 2)
