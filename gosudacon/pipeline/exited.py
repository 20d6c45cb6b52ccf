"""A container's end, as plugins are told of it."""

from __future__ import annotations

from gosudacon.pipeline.step import DELETE, RUNTIME, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

LIMIT = 10.0  # seconds that all plugins together may take


class EndedContainer:
    """The container: its ``id``, the absolute path of its ``bundle``, and its ``annotations``."""

    def __init__(self, id: str, bundle: str, annotations: Mapping[str, str]) -> None:
        self.id = id
        self.bundle = bundle
        self.annotations = annotations


class Exit:
    """The end of its first process.

    ``pid`` is the host's number, which others may have by now; ``status`` the exit status, 128 + N for signal N;
    ``signal`` that N, 0 if no signal ended it; ``out_of_memory`` whether the kernel killed a process of the container
    for lack of memory; ``time`` when it ended, in nanoseconds since 1970.
    """

    def __init__(self, pid: int, status: int, signal: int, out_of_memory: bool, time: int) -> None:
        self.pid = pid
        self.status = status
        self.signal = signal
        self.out_of_memory = out_of_memory
        self.time = time


class TellPlugins(Step):
    """For `explain`: what is done when the container has ended. It is in no plan that is run.

    Why: a plugin may keep a book about containers.
    Without it: it would not learn that this one has ended.
    See: gosudacon: docs/plugins.md.
    """

    phase = DELETE
    side = RUNTIME
    plugins: list[str]

    def describe(self) -> str:
        return f"when the process has ended, tell {', '.join(self.plugins)} (in the foreground, and under the shim)"
