"""Run parts at the same time: each has its own output, and all of them end when the run is interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import IO

from tools.results import Result

GRACE = 60
"""Seconds that an interrupted part has for clearing up."""

INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Failure(Exception):
    """A command of a part has failed, or a part could not even be prepared; the message says why."""


class Job:
    """What a part runs its commands with: they write to ``output``, and get ``environment``."""

    def __init__(self, name: str, output: IO[str], environment: Mapping[str, str], directory: Path) -> None:
        self.name = name
        self.output = output
        self.environment = environment
        self.directory = directory
        self.stopped = False
        self._child: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def say(self, text: str) -> None:
        """Write a line to the part's output."""
        print(text, file=self.output, flush=True)

    def run(self, words: list[str], limit: float = 900, extra: Mapping[str, str] | None = None) -> None:
        """Run a command that must succeed within ``limit`` seconds; raises Failure."""
        with self._lock:
            if self.stopped:
                raise Failure("interrupted")
            # A group of its own, so that what ends a part reaches this part alone.
            self._child = subprocess.Popen(
                words,
                cwd=self.directory,
                env={**os.environ, **self.environment, **(extra or {})},
                stdin=subprocess.DEVNULL,
                stdout=self.output,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
        try:
            status = self._child.wait(limit)
        except subprocess.TimeoutExpired:
            self._end(self._child)
            raise Failure(f"{' '.join(words)}: not done after {limit:g} s") from None
        if self.stopped:
            raise Failure("interrupted")
        if status != 0:
            raise Failure(f"{' '.join(words)}: exit status {status}")

    def timed(self, name: str, words: list[str], limit: float = 900, extra: Mapping[str, str] | None = None) -> Result:
        """Run a command as the part, or the piece of a part, ``name``."""
        self.say(f"\n=== {name}")
        start = time.monotonic()
        try:
            self.run(words, limit, extra)
        except Failure as error:
            self.say(str(error))
            return Result(name, False, time.monotonic() - start, str(error).rpartition(": ")[2])
        return Result(name, True, time.monotonic() - start)

    def stop(self) -> None:
        """Interrupt the command that runs, and run no other; returns when it has ended."""
        with self._lock:
            self.stopped = True
            child = self._child
        if child is not None:
            self._end(child)

    @staticmethod
    def _end(child: subprocess.Popen[bytes]) -> None:
        """What pytest does on SIGINT is to take down the fixtures of its test, with containers and all."""
        for number, limit in ((signal.SIGINT, GRACE), (signal.SIGKILL, None)):
            if child.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, number)
                with suppress(subprocess.TimeoutExpired):
                    child.wait(limit)


Part = Callable[[Job], list[Result]]


class Runner:
    """Runs parts, ``width`` at a time, in the order given; with a width of 1 their output comes as it is made.

    The output of the others goes to ``logs/NAME.log``, and is printed whole when the part has ended.
    """

    def __init__(self, width: int, logs: Path, environment: Mapping[str, str], directory: Path) -> None:
        self.width = width
        self.logs = logs
        self.environment = environment
        self.directory = directory
        self._jobs: list[Job] = []
        self._stopping = False
        # The names of parts that have ended; None stands for an interruption, which may come at any instruction. put()
        # may be called by a signal's handler while the same thread is in get().
        self._ended: SimpleQueue[str | None] = SimpleQueue()

    def run(self, parts: Mapping[str, Part]) -> dict[str, list[Result]]:
        """The results by part; raises KeyboardInterrupt, after all has ended, when the run is interrupted."""
        handlers = {number: signal.signal(number, lambda *_: self._ended.put(None)) for number in INTERRUPTIONS}
        try:
            return self._run_all(parts)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _run_all(self, parts: Mapping[str, Part]) -> dict[str, list[Result]]:
        results: dict[str, list[Result]] = {}
        with ThreadPoolExecutor(self.width) as pool:
            futures = {name: pool.submit(self._run, name, part) for name, part in parts.items()}
            for name, future in futures.items():
                future.add_done_callback(partial(self._note, name))
            try:
                while len(results) < len(parts):
                    ended = self._ended.get()
                    if ended is None:
                        raise KeyboardInterrupt
                    results[ended] = futures[ended].result()
                    self._show(ended)
            except BaseException:
                self._stop(futures.values())
                for name in futures:
                    if name not in results:
                        self._show(name)
                raise
        return results

    def _note(self, name: str, _: Future[list[Result]]) -> None:
        self._ended.put(name)

    def _run(self, name: str, part: Part) -> list[Result]:
        path = self.logs / f"{name}.log"
        with open(os.dup(1), "w") if self.width == 1 else path.open("w") as output:
            job = Job(name, output, self.environment, self.directory)
            self._jobs.append(job)
            if self._stopping:  # asked when the job is in the list: either this sees the end, or _stop() sees the job
                job.stopped = True
            try:
                return part(job)
            except Failure as error:
                job.say(str(error))
                return [Result(name, False, 0, str(error))]

    def _show(self, name: str) -> None:
        path = self.logs / f"{name}.log"
        if self.width > 1 and path.exists():
            sys.stdout.write(path.read_text(errors="replace"))
            sys.stdout.flush()

    def _stop(self, futures: Iterable[Future[list[Result]]]) -> None:
        print("\ninterrupted: waiting for the parts that run to end", file=sys.stderr, flush=True)
        for future in futures:
            future.cancel()
        self._stopping = True
        threads = [threading.Thread(target=job.stop) for job in self._jobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
