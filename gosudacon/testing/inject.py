"""A plugin for tests alone, which makes a step fail; `gosudacon.testing.faults` enables it.

The annotation ``org.gosudacon.testing.fault`` is ``INDEX:WHEN:WHAT``: the step's number in the plan that `explain`
shows; ``before`` or ``after`` it; ``error``, or ``death`` of the process that runs it.
"""

from __future__ import annotations

import os

from gosudacon.api import RUNTIME, Context, Error, Spec, Step, hookimpl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.api import Plan

ANNOTATION = "org.gosudacon.testing.fault"
MESSAGE = "a fault of the tests"


class _Fault:
    step: Step | None = None
    when = ""
    what = ""


@hookimpl(trylast=True)
def gosudacon_amend_plan(plan: Plan, spec: Spec) -> None:
    """Changes nothing; remembers the step."""
    text = (spec.config.get("annotations") or {}).get(ANNOTATION, "")
    if text and spec.operation == "create":
        index, _Fault.when, _Fault.what = text.split(":")
        _Fault.step = plan.steps[int(index)]


@hookimpl
def gosudacon_step_started(step: Step, context: Context) -> None:
    """Fail before the step."""
    _at(step, context, "before")


@hookimpl
def gosudacon_step_finished(step: Step, context: Context) -> None:
    """Fail after it."""
    _at(step, context, "after")


def _at(step: Step, context: Context, when: str) -> None:
    if step is not _Fault.step or when != _Fault.when:
        return
    if _Fault.what == "error":
        raise Error(MESSAGE)
    if context.side == RUNTIME:
        os.kill(os.getpid(), 9)
    os._exit(1)  # init of a pid namespace cannot kill itself
