"""The pod's loop: passes, each of which changes only what differs from what is wanted."""

from __future__ import annotations

import math
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gosudacon.base.errors import Error, reason
from gosudacon.node import engines, install, pass_, places, remove
from gosudacon.node.cluster import ACCOUNT, Cluster
from gosudacon.node.engines import Engine
from gosudacon.node.files import Node
from gosudacon.node.install import Image, Installation, Outcome, said
from gosudacon.pipeline import snapshot
from gosudacon.wire import systemd

_ENDS = {signal.SIGTERM, signal.SIGINT}
# Seconds after which the node is told again, and asked for its engine: either may have changed.
_AGAIN = 300.0
_LONGEST = 1000  # characters of an annotation
_INTERVALS = (0.1, 86400.0)  # seconds: the shortest and the longest time between passes


@dataclass(frozen=True)
class Settings:
    """What the DaemonSet sets in the environment, and where the pod has things.

    ``unit``, ``containerd_config``: instead of the engine's usual ones; ``interval``: seconds between passes.
    """

    node: str
    host: str
    port: str
    unit: str = ""
    containerd_config: str = ""
    interval: float = 15.0
    root: str = "/node"
    fleet: Path = Path("/etc/gosudacon-fleet/config.toml")
    status: Path = Path("/run/gosudacon-node/status")
    account: Path = ACCOUNT
    image: Path = field(default_factory=lambda: Path(places.PREFIX, places.CURRENT))

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Settings:
        """Raises `Error` that names the variable that is missing or wrong."""
        try:
            node, host = environment["NODE_NAME"], environment["KUBERNETES_SERVICE_HOST"]
        except KeyError as error:
            raise Error(f"{error.args[0]} is not set", hint="this program runs in the pods of its DaemonSet") from None
        interval = _interval(environment.get("GOSUDACON_INTERVAL") or "15")
        port = environment.get("KUBERNETES_SERVICE_PORT") or "443"
        unit, config = environment.get("GOSUDACON_UNIT", ""), environment.get("GOSUDACON_CONTAINERD_CONFIG", "")
        return cls(node, host, port, unit, config, interval)


def _interval(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not _INTERVALS[0] <= value <= _INTERVALS[1]:
        raise Error(f"GOSUDACON_INTERVAL is {text!r}, not a number of seconds from 0.1 to 86400")
    return value


class Agent:
    """Installs on, or with ``removes`` removes from, the node of this pod until it is told to end."""

    def __init__(self, settings: Settings, removes: bool) -> None:
        self._settings = settings
        self._removes = removes
        self._version = os.path.basename(os.path.realpath(settings.image))
        self._cluster = Cluster(settings.host, settings.port, settings.node, settings.account)
        self._told: tuple[dict[str, str | None], dict[str, str | None]] = ({}, {})
        self._told_at = 0.0
        self._engine: Engine | None = None
        self._said: list[str] = []

    def run(self) -> None:
        """Return at SIGTERM or SIGINT, which wait for the end of a pass. Raises OSError."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS)
        self._settings.status.unlink(missing_ok=True)  # of a container of this pod that ended: it says nothing of now
        while True:
            self.step()
            if signal.sigtimedwait(_ENDS, self._settings.interval) is not None:
                return

    def step(self) -> Outcome:
        """One pass; its outcome is reported in the log, on the node object, and to the pod's readiness probe."""
        outcome, silence = Outcome(), ""
        try:
            engine, silence = self._ask()
            outcome = self._pass(engine)
            if not silence and not signal.sigpending() & _ENDS:  # otherwise another pod has the word
                self._tell(outcome)
        except Error as error:
            outcome.trouble.append(said(error))
        except OSError as error:  # of the pod itself: a volume, the image, memory
            outcome.trouble.append(reason(error))
        if silence:
            outcome.trouble.append(silence)
        self._say(outcome)
        return outcome

    def _ask(self) -> tuple[Engine, str]:
        """The node's engine, and why the API server could not be asked. Raises `Error` if it never could."""
        if self._engine is not None and time.monotonic() - self._told_at <= _AGAIN:
            return self._engine, ""
        # A node that is left gets no new pods from now on; one that is new gets none before it is ready.
        label: dict[str, str | None] = {places.LABEL: None} if self._removes else self._told[0]
        try:
            version = self._cluster.note(label, self._told[1])
        except Error as error:
            if self._engine is None:
                raise
            return self._engine, said(error)  # the node does not wait for the API server
        self._engine = self._known(version)
        return self._engine, ""

    def _known(self, version: str) -> Engine:
        self._told_at = time.monotonic()
        try:
            return engines.of(version, self._settings.unit, self._settings.containerd_config)
        except Error as error:
            self._tell(Outcome(trouble=[said(error)]))
            raise

    def _pass(self, engine: Engine) -> Outcome:
        try:
            fleet = self._settings.fleet.read_text()
        except FileNotFoundError:  # the volume is optional
            fleet = ""
        except ValueError as error:
            raise Error(f"the fleet's configuration is not UTF-8 text: {error}") from None
        image = os.open(self._settings.image, os.O_PATH | os.O_DIRECTORY)
        try:
            return pass_.run(self._settings.root, lambda: self._work(engine, image, fleet))
        finally:
            os.close(image)

    def _work(self, engine: Engine, image: int, fleet: str) -> Outcome:
        """In the child, whose root is the node's; ``image`` is a descriptor of the image's version."""
        if self._removes:
            outcome = remove.run(Node(), engine, systemd.Manager)
            if not Node().prefix.exists():
                snapshot.clear()
            return outcome
        version = Image(self._version, Path(f"/proc/self/fd/{image}/."))
        return Installation(Node(), engine, version, fleet or None, install.check, systemd.Manager).run()

    def _tell(self, outcome: Outcome) -> None:
        """Change the node object, unless it says this already. A node with trouble keeps the label that it has."""
        labels: dict[str, str | None] = {}
        if self._removes:
            labels = {places.LABEL: None}
        elif outcome.come:
            labels = {places.LABEL: places.READY}
        state: str | None = f"version {self._version}"
        if self._removes:
            state = f"is removed when these end: {', '.join(outcome.waits)}"[:_LONGEST] if outcome.waits else None
        trouble = "; ".join(outcome.trouble)[:_LONGEST] or None
        told = (labels, {places.STATE: state, places.TROUBLE: trouble})
        if told != self._told:
            self._cluster.note(*told)
            self._told, self._told_at = told, time.monotonic()

    def _say(self, outcome: Outcome) -> None:
        lines = [f"still there: {', '.join(outcome.waits)}"] if outcome.waits else []
        lines += [f"error: {text}" for text in outcome.trouble]
        for line in outcome.done:
            print(line, file=sys.stderr, flush=True)
        for line in lines:
            if line not in self._said:
                print(line, file=sys.stderr, flush=True)
        self._said = lines
        self._write_status("\n".join(lines))

    def _write_status(self, text: str) -> None:
        """Replace the file in one step: the probe takes an empty one for "ready"."""
        draft = self._settings.status.with_name(".status")
        try:
            draft.write_text(text, errors="backslashreplace")
            draft.replace(self._settings.status)
        except OSError as error:
            print(f"error: {reason(error)}", file=sys.stderr, flush=True)


def is_ready(status: Path = Settings.status) -> str:
    """Why the node is not ready; empty if it is."""
    try:
        return status.read_text()
    except FileNotFoundError:
        return "the first pass is not over"
