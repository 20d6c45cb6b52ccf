"""What must hold for a step whose effect outlives the process."""

from __future__ import annotations

from pathlib import Path

from gosudacon.api import Context, Step
from gosudacon.base import jsonio
from gosudacon.pipeline import kinds


def check_lasting(step: Step, context: Context, *directories: Path | str) -> None:
    """Undo of ``step`` removes what run made in ``directories``, whenever it is called and however often.

    Without a run before it; after one; twice; by a step that was rebuilt from its record, with a context that has
    nothing but what ``delete`` has. Raises AssertionError.
    """
    assert step.lasts, f"it does not last: {step.describe()}"
    assert type(step).undo is not Step.undo, f"it lasts, and has no undo: {step.describe()}"
    places = [Path(directory) for directory in directories]
    before = _look(places)
    late = Context(context.spec, context.host)
    late.state_dir = context.state_dir
    back = kinds.rebuild(jsonio.loads(jsonio.dumps(step.record()).encode()))
    back.undo(late)
    _compare(before, _look(places), "undo without a run")
    step.run(context)
    step.undo(context)
    _compare(before, _look(places), "run and undo")
    step.run(context)
    back.undo(late)
    _compare(before, _look(places), "run, and undo by another process")
    back.undo(late)
    _compare(before, _look(places), "undo, twice")


def _look(places: list[Path]) -> dict[str, bytes]:
    return {
        str(path): path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        for place in places
        for path in place.rglob("*")
    }


def _compare(before: dict[str, bytes], after: dict[str, bytes], what: str) -> None:
    changed = [path for path in {**before, **after} if before.get(path) != after.get(path)]
    assert not changed, f"{what}: changed or left: {', '.join(sorted(changed))}"
