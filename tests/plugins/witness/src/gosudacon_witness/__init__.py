"""Observes steps: those of the runtime's side are written down in the file ``witness`` of the bundle."""

from __future__ import annotations

from gosudacon.api import Context, Error, Step, hookimpl


@hookimpl
def gosudacon_step_started(step: Step, context: Context) -> None:
    """Write down what begins; refuse what the bundle's file ``refuse`` has the phase of."""
    _write(context, f"{step.phase} started {step.describe()}")
    try:
        with open(f"{context.spec.bundle}/refuse") as file:
            refused = file.read()
    except OSError:
        return
    if refused == step.phase:
        raise Error("refused by the witness")


@hookimpl
def gosudacon_step_finished(step: Step, context: Context, error: Error | None) -> None:
    """Write down what has ended, and how."""
    _write(context, f"{step.phase} finished {error.message if error else 'well'}")


def _write(context: Context, line: str) -> None:
    if context.side == "runtime":
        with open(f"{context.spec.bundle}/witness", "a") as file:
            file.write(f"{line}\n")
