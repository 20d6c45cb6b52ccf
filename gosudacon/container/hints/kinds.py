"""What the table of hints is made of: kinds of failures, and what a kind may look at."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from gosudacon.base.errors import Error
    from gosudacon.pipeline.spec import Host, Spec

    Value = TypeVar("Value")


class Failure:
    """One failure: the error, what it was about (if that is known), the directory of all containers' state."""

    def __init__(self, error: Error, spec: Spec | None = None, root: str = "", host: Host | None = None) -> None:
        self.error, self.spec, self.root = error, spec, root
        self._host = host
        self._cache: dict[str, object] = {}

    @property
    def message(self) -> str:
        return self.error.message

    @property
    def call(self) -> str:
        return self.error.call

    @property
    def errno(self) -> int:
        return self.error.errno

    @property
    def where(self) -> str:
        return self.error.where

    @property
    def stage(self) -> str:
        return self.error.stage

    @property
    def step(self) -> str:
        return self.error.step

    @property
    def host(self) -> Host:
        """Facts about this host, gathered now."""
        if self._host is None:
            from gosudacon.container import host as hosts

            self._host = hosts.gather()
        return self._host

    def cached(self, name: str, make: Callable[[], Value]) -> Value:
        """What several kinds of one topic look at, made once."""
        if name not in self._cache:
            self._cache[name] = make()
        return self._cache[name]  # type: ignore[return-value]

    def value(self, where: str = "") -> object:
        """What config.json says at a place, by default the error's; None if nothing."""
        if self.spec is None:
            return None
        value: object = self.spec.config
        rest = where or self.where
        for name in rest.replace("[", ".[").split("."):
            if name.startswith("[") and isinstance(value, list):
                index = int(name[1:-1])
                value = value[index] if index < len(value) else None
            elif name:
                value = value.get(name) if isinstance(value, dict) else None
        return value

    def mount(self) -> dict[str, object]:
        """The entry of ``mounts`` that the failure is about; empty if it is about none."""
        name = self.where.partition("]")[0] + "]"
        entry = self.value(name) if name.startswith("mounts[") else None
        return entry if isinstance(entry, dict) else {}


class Kind:
    """One kind of failure: its name, what the user has done, and the function that knows it and says what to do.

    The function returns an empty string for a failure of another kind.
    """

    def __init__(self, name: str, sees: str, hint: Callable[[Failure], str]) -> None:
        self.name, self.sees, self.hint = name, sees, hint
