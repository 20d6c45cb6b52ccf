"""One shim: its loop, its socket, its containers, and what they share."""

from __future__ import annotations

import time

from gosudacon.base import errors, posix
from gosudacon.container import host as hosts
from gosudacon.container import metrics, stats, whereabouts
from gosudacon.shim import rest
from gosudacon.shim.loop import Loop
from gosudacon.shim.publisher import Publisher
from gosudacon.shim.reaper import Reaper
from gosudacon.shim.server import Server
from gosudacon.shim.service import Tasks
from gosudacon.shim.worker import Failed, Worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gosudacon.pipeline.spec import Host
    from gosudacon.shim.options import Options
    from gosudacon.shim.place import Place
    from gosudacon.shim.server import Reply
    from gosudacon.shim.task import Container
    from gosudacon.shim.worker import Job, Note
    from gosudacon.wire.protobuf import Message

_FLUSH = 5.0  # seconds for the last events
_FIRST_LOOK = 120.0  # seconds that containerd has for a connection, however busy the machine is
_LOOK = 30.0  # seconds between looks for containers that no client will delete any more


class Shim:
    """Serves what is bound to ``place`` until containerd ends it."""

    def __init__(self, place: Place, ttrpc_address: str) -> None:
        self.loop = Loop(self.report, rest.rest)
        self.reaper = Reaper(self.loop)
        self.tasks = Tasks(self)
        self.namespace = place.namespace
        self._place = place
        self._publisher = Publisher(self.loop, ttrpc_address, place.namespace, self.report)
        self._server = Server(self.loop, place.listener, self.tasks.methods(), self.report)
        self._workers: set[Worker] = set()
        self._host: Host | None = None  # gathered once: only the mount points of cgroups are asked for
        self.ending = False
        self.loop.later(_FIRST_LOOK, self._look)

    def run(self) -> None:
        """Serve until the end."""
        rest.collect_garbage()
        self.loop.run()

    def end(self, reply: Reply) -> None:
        """The shim is no longer needed: accept no new client, send the last answer and the last events."""
        self.ending = True
        self._place.leave()
        self._server.close()
        reply.send({})
        self._finish()

    def worker(
        self,
        job: Job,
        done: Callable[[Note | Failed], None],
        noted: Callable[[Note, list[int]], None] | None = None,
        joins: Mapping[str, str] | None = None,
    ) -> Worker:
        """Have a worker do it. What it warns of is logged.

        ``joins``: the cgroups of a container, by controller; the worker may become a process of that.
        """

        def finished(outcome: Note | Failed) -> None:
            self._workers.discard(worker)
            if not isinstance(outcome, Failed):
                for warning in outcome.pop("warnings", ()):  # type: ignore[attr-defined]
                    self.log("warning", str(warning))
            done(outcome)

        if joins is None:
            worker = Worker(self.loop, job, finished, noted)
        else:
            worker = Worker(self.loop, job, finished, noted, reaper=self.reaper, cgroup=joins.get("", ""))
        self._workers.add(worker)
        return worker

    def root_of(self, options: Options) -> str:
        """The directory of the states of containers with these options."""
        return self._place.root(options.root)

    def publish(self, event: str, **fields: object) -> None:
        """Tell containerd of an event, by its name and fields."""
        self._publisher.publish(event, fields)

    def metrics(self, container: Container) -> Message | None:
        """What the container uses, as the fields of `wire.containerd.ANY`; None if its cgroups are gone.

        Raises `Error` if its init has been moved out of them.
        """
        if self._host is None:
            self._host = hosts.gather()
        accounting = stats.accounting(container.cgroups)
        whereabouts.require(container.recorded(), accounting, stats.PURPOSE, self._host)
        return metrics.collect(container.cgroups)

    def report(self, error: BaseException) -> None:
        """Log what should not have happened, with where it did."""
        trace = error.__traceback__
        places = []
        while trace is not None:
            places.append(f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}")
            trace = trace.tb_next
        self.log("error", f"{type(error).__name__}: {errors.reason(error)} ({' '.join(places)})")

    def log(self, level: str, message: str) -> None:
        """One line for containerd's log; lost if that takes no more."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = f'time="{now}" level={level} msg="{_quoted(message)}"\n'
        try:
            posix.write(2, line.encode("utf-8", "backslashreplace"))
        except OSError:
            return

    def _look(self) -> None:
        """End without containerd's word where no client is connected and nothing is left to ask for."""
        self.loop.later(_LOOK, self._look)
        if self._server.connections or self._workers or self.ending:
            return
        self.tasks.forget_deleted()
        if self.tasks.idle():
            self._place.leave()
            self._server.close()
            self._finish()

    def _finish(self) -> None:
        self._publisher.when_empty(self.loop.stop)
        self.loop.later(_FLUSH, self.loop.stop)


def _quoted(text: str) -> str:
    return "".join([char if char.isprintable() and char not in '"\\' else repr(char)[1:-1] for char in text])
