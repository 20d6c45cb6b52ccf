"""Plans that one process can carry out: from the spawn on, it is the container's side, without a runtime's side.

The two sides are two processes where the runtime has something to do that the container's process cannot do. An exec
often has nothing of that kind. Then a process that would only clone another one and wait for it goes on in its place.
"""

from __future__ import annotations

from gosudacon.pipeline.plan import Move
from gosudacon.pipeline.step import CONTAINER, ORDER, RUNTIME, START

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from gosudacon.pipeline.plan import Plan


class Handover:
    """How a process becomes the container's: ``hand_over`` is called at that moment, with what is to be warned of.

    It returns the descriptor of a channel to the process that is the runtime's side from there on, and sends the
    messages that `gosudacon.pipeline.executor.RuntimeSide` sends.
    """

    def __init__(self, hand_over: Callable[[list[str]], int]) -> None:
        self.hand_over = hand_over

    def lane(self, plan: Plan) -> list[Move]:
        """All steps that come once there is a process, for it alone and in the plan's order; none if it cannot.

        It can where each step of the runtime's side says so (``either_side``), and where the process forks once more:
        who runs this lane has been made elsewhere, and only its child is born where the container's process belongs.
        """
        spawns = [index for index, step in enumerate(plan.steps) if step.spawns]
        if len(spawns) != 1:
            return []
        steps = [
            step
            for index, step in enumerate(plan.steps)
            if ORDER[step.phase] <= ORDER[START] and (index > spawns[0] or step.runs_on() == CONTAINER)
        ]
        if sum(step.forks for step in steps) != 1:
            return []
        if any(step.runs_on() == RUNTIME and not step.either_side for step in steps):
            return []
        return [Move(step, 0) for step in steps]
