"""Marks where each step begins and ends, for strace(1): a path that is not there is asked for, on either side."""

from __future__ import annotations

import os

from gosudacon.api import Context, Error, Step, hookimpl

PLACE = "/gosudacon-step"


@hookimpl
def gosudacon_step_started(step: Step, context: Context) -> None:
    """Mark the begin."""
    _mark("begin", step)


@hookimpl
def gosudacon_step_finished(step: Step, context: Context, error: Error | None) -> None:
    """Mark the end."""
    _mark("end", step)


def _mark(word: str, step: Step) -> None:
    os.access(f"{PLACE}/{word}/{type(step).__name__}/{step.describe()}", os.F_OK)
