"""Makes a chosen step fail, or stops there until the test has killed a process.

The annotation ``gosudacon.test.fault`` of config.json is ``INDEX:WHEN:WHAT:SOCKET``:

``INDEX``   of the step in the plan, as in ``explain --format json``
``WHEN``    ``before`` or ``after`` the step
``WHAT``    ``error`` and ``oserror`` raise; ``stop`` says so on SOCKET and goes on when the test closes that
``SOCKET``  the path of an AF_UNIX, SOCK_SEQPACKET socket on which the test listens, for ``stop``

The annotation ``gosudacon.test.undo`` is ``WHICH:SOCKET``: undoing stops at its very beginning (``first``) or when all
is undone but this (``last``), as ``stop`` does.

Init closes all its descriptors late in `CONFINE`. At a step after that, ``stop`` writes ``STOPPED`` to standard error
and waits until the caller, of ``create`` or of ``start``, is gone.
"""

from __future__ import annotations

import _socket
import os
import select

from gosudacon.api import CONTAINER, PREPARE, Context, Error, Host, Spec, Stage, Step, hookimpl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from gosudacon.api import Plan

ANNOTATION = "gosudacon.test.fault"
UNDO = "gosudacon.test.undo"
STOPPED = b"stopped at the step\n"
_PATIENCE = 20_000  # milliseconds; the test kills us long before


class _Fault:
    """What is to happen, and where: filled while planning, so that both sides have it."""

    step: Step | None = None
    when = ""
    what = ""
    channel: Any = None


class StopInUndo(Step):
    """Does nothing, and takes its time to undo it."""

    phase = PREPARE
    lasts = True
    socket: str

    def describe(self) -> str:
        return "stop when this is undone"

    def run(self, context: Context) -> None:
        return

    def undo(self, context: Context) -> None:
        channel = _connected(self.socket)
        channel.send(b"!")
        channel.recv(1)


class Faults(Stage):
    """Steps are undone in reverse: the first to be undone runs last."""

    name = "faults"
    keys = ("annotations",)

    def plan(self, spec: Spec, host: Host) -> Iterator[Step]:
        which, _, path = spec.config["annotations"].get(UNDO, "").partition(":")
        if which:
            yield StopInUndo(socket=path, rank=1000 if which == "first" else -1000)


@hookimpl
def gosudacon_stages() -> list[Stage]:
    """Contribute the stage."""
    return [Faults()]


@hookimpl
def gosudacon_amend_plan(plan: Plan, spec: Spec) -> None:
    """Changes nothing; remembers the step."""
    text = (spec.config.get("annotations") or {}).get(ANNOTATION, "")
    if text:
        index, _Fault.when, _Fault.what, path = text.split(":")
        _Fault.step = plan.steps[int(index)]
        if path:
            _Fault.channel = _connected(path)


@hookimpl
def gosudacon_step_started(step: Step, context: Context) -> None:
    """Fail before the step."""
    _at(step, context, "before")


@hookimpl
def gosudacon_step_finished(step: Step, context: Context) -> None:
    """Fail after it."""
    _at(step, context, "after")
    if _Fault.channel is not None and _Fault.step is not None:
        if step.spawns and _Fault.step.runs_on() == CONTAINER:
            _Fault.channel.close()  # the container's process has its own, whose end the test is to notice
        if context.side == CONTAINER and type(step).__name__ == "CloseDescriptors":
            _Fault.channel.detach()  # its number may soon be that of another descriptor
            _Fault.channel = None


def _connected(path: str) -> Any:
    channel = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    channel.connect(path)
    return channel


def _at(step: Step, context: Context, when: str) -> None:
    if step is not _Fault.step or when != _Fault.when:
        return
    if _Fault.what == "error":
        raise Error("fault injected")
    if _Fault.what == "oserror":
        raise OSError(28, "fault injected")
    if _Fault.channel is None:
        _stop_without_a_channel(context)
        return
    _Fault.channel.send(b"!")
    _Fault.channel.recv(1)


def _stop_without_a_channel(context: Context) -> None:
    assert context.engine is not None
    os.write(2, STOPPED)
    gone = select.poll()
    gone.register(context.engine.descriptors()[0], 0)  # POLLHUP is always reported
    gone.poll(_PATIENCE)
