"""One pass of the removal: a container that runs loses nothing."""

from __future__ import annotations

from gosudacon.node import places, versions
from gosudacon.node.engines import Engine
from gosudacon.node.files import Node, Record
from gosudacon.node.install import Outcome, tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.node.install import Connect


def run(node: Node, engine: Engine, connect: Connect) -> Outcome:
    """Remove everything that no container needs: `Outcome.waits` says what the rest waits for.

    The engine knows the runtime until the last container has ended, so that a pod's container can be started again,
    and stopped, and its streams read. Raises `Error`, OSError.
    """
    outcome = Outcome()
    if not node.prefix.exists():
        return outcome
    outcome.waits = [f"container {name}" for name in versions.running(node, engine)]
    if outcome.waits:
        return outcome
    record = Record.load(node)
    record.refused = {}
    tell(engine, engine.former(node, record.files), record, connect, outcome)
    outcome.waits = [f"container {name}" for name in versions.running(node, engine)]
    if outcome.waits:  # one was created between the check and the restart
        return outcome
    if record.fleet:
        record.put({places.CONFIG: record.former})
        record.fleet = False
        record.save()
        outcome.done.append(f"{places.CONFIG} is as it was" if record.former else f"removed {places.CONFIG}")
    if versions.remove(node, record):
        outcome.done.append(f"removed {places.PREFIX}")
    else:
        outcome.waits = ["a process of the runtime that still runs"]
    return outcome
