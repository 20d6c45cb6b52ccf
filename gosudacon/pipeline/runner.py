"""Run and undo single steps: every failure becomes an `Error` that names stage, step, call and place."""

from __future__ import annotations

from gosudacon.base.errors import Error, StepError, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from gosudacon.pipeline.step import Context, Step

    Hooks = Sequence[tuple[str, Callable[..., object]]]
    Observers = tuple[Hooks, Hooks]  # before and after each step


def run_step(step: Step, context: Context, observers: Observers = ((), ())) -> None:
    """Run one step; whatever it raises becomes an `Error` that names stage, step, call and place."""
    if not (observers[0] or observers[1]):
        return _run_step(step, context)
    _observe(observers[0], step, context=context)
    failure: Error | None = None
    try:
        _run_step(step, context)
    except Error as error:
        failure = error
    try:
        _observe(observers[1], step, context=context, error=failure)
    except Error as error:
        failure = failure or error  # the step's own is the news
    if failure is not None:
        raise failure


def _run_step(step: Step, context: Context) -> None:
    try:
        step.run(context)
    except Error as error:
        error.stage = error.stage or step.stage
        error.step = error.step or step.describe()
        error.where = error.where or step.where
        error.message += _blame(step)
        raise
    except Exception as error:
        raise _step_error(step, error) from error


def _observe(hooks: Hooks, step: Step, **given: object) -> None:
    for plugin, hook in hooks:
        try:
            hook(step=step, **given)
        except Error:
            raise
        except Exception as error:
            what = step.describe()
            raise StepError(f"plugin {plugin!r}, observing {what}: {reason(error)}", stage=plugin, step=what) from error


def undo_steps(
    steps: Iterable[Step], context: Context, undone: Callable[[Step, Error | None], None] | None = None
) -> list[Error]:
    """Undo in reverse order, going on after failures, which are returned. ``undone`` is called after each step."""
    failures = []
    for step in reversed(list(steps)):
        failure: Error | None = None
        try:
            step.undo(context)
        except Error as error:
            failure = error
        except Exception as error:  # noqa: BLE001 - whatever a plugin raises must not stop the others' undoing
            failure = _step_error(step, error, "undo ")
        if failure is not None:
            failures.append(failure)
        if undone is not None:
            undone(step, failure)
    return failures


def _step_error(step: Step, error: Exception, prefix: str = "") -> StepError:
    what = step.describe()
    words = prefix + what if prefix else step.failing.format_map(vars(step)) or what
    return StepError(
        f"{words}: {reason(error)}{_blame(step)}",
        stage=step.stage,
        step=prefix + what,
        call=getattr(error, "call", ""),
        errno=getattr(error, "errno", 0) or 0,
        where=step.where,
    )


def _blame(step: Step) -> str:
    return f" ({step.edited_by})" if step.edited_by else ""
