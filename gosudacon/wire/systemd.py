"""systemd's manager over D-Bus: scopes started, changed and stopped (org.freedesktop.systemd1(5))."""

from __future__ import annotations

import time

from gosudacon.base import posix
from gosudacon.base.errors import Error, StepError
from gosudacon.base.user import session_dir
from gosudacon.wire import dbus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    #: ``[name, signature, value]``: JSON, for a step's fields.
    Property = list[Any]

PATIENCE = 30.0  # seconds for an answer, and for a job
_NAME = "org.freedesktop.systemd1"
_PATH = "/org/freedesktop/systemd1"
_MANAGER = f"{_NAME}.Manager"
_PROPERTIES = "org.freedesktop.DBus.Properties"
_PRIVATE, _SYSTEM_BUS = "/run/systemd/private", "/run/dbus/system_bus_socket"
_JOB_REMOVED = f"type='signal',sender='{_NAME}',path='{_PATH}',interface='{_MANAGER}',member='JobRemoved'"
_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")


class UnitExistsError(StepError):
    """There is a unit of this name, and it runs."""


class Manager:
    """A connection to the system's manager or, with ``user``, to that of the calling user.

    A context manager. Raises `StepError` if no manager can be reached or one refuses.
    """

    def __init__(self, user: bool = False) -> None:
        self._connection = _connect(user)
        self._hears = False

    def __enter__(self) -> Manager:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.__exit__()

    def start_scope(self, unit: str, properties: Sequence[Property], pids: Sequence[int]) -> None:
        """Start a transient scope with the processes ``pids`` in it; returns when they are.

        A unit of that name that has failed is forgotten first. Raises `UnitExistsError` for one that runs.
        """
        values = [(name, (signature, value)) for name, signature, value in properties]
        values.append(("PIDs", ("au", list(pids))))
        self._hear_jobs()
        for last in (False, True):
            try:
                (job,) = self._manager("StartTransientUnit", "ssa(sv)a(sa(sv))", unit, "replace", values, [])
                break
            except dbus.DBusError as error:
                if error.name != f"{_NAME}.UnitExists":
                    raise _refused(f"start {unit}", error) from error
                if last:
                    raise UnitExistsError(f"unit {unit} already exists") from error
            self.reset_failed(unit)
        result = self._await(job, unit)
        if result != "done":
            self.reset_failed(unit)
            raise StepError(f"systemd could not start {unit}: the job ended as {result!r}")

    def stop(self, unit: str) -> None:
        """Stop a unit and forget that it failed; returns when it is gone. One that is not there is fine."""
        self._hear_jobs()
        try:
            (job,) = self._manager("StopUnit", "ss", unit, "replace")
        except dbus.DBusError as error:
            if error.name not in (f"{_NAME}.NoSuchUnit", f"{_NAME}.UnitNotLoaded"):
                raise _refused(f"stop {unit}", error) from error
        else:
            self._await(job, unit)
        self.reset_failed(unit)

    def restart(self, unit: str) -> None:
        """Restart a unit that is installed; returns when it is up. Raises `StepError` if it does not come up, too."""
        self._hear_jobs()
        try:
            (job,) = self._manager("RestartUnit", "ss", unit, "replace")
        except dbus.DBusError as error:
            raise _refused(f"restart {unit}", error) from error
        result = self._await(job, unit)
        if result != "done":
            raise StepError(f"systemd could not restart {unit}: the job ended as {result!r}")

    def reset_failed(self, unit: str) -> None:
        """Forget that a unit has failed, so that it can go; fine where there is nothing to forget."""
        try:
            self._manager("ResetFailedUnit", "s", unit)
        except dbus.DBusError:
            return

    def set_properties(self, unit: str, properties: Sequence[Property]) -> None:
        """Change properties until the unit stops; returns when the cgroup's files have the new values."""
        values = [(name, (signature, value)) for name, signature, value in properties]
        try:
            self._manager("SetUnitProperties", "sba(sv)", unit, True, values)
        except dbus.DBusError as error:
            raise _refused(f"set {', '.join(each[0] for each in properties)} of {unit}", error) from error
        # The files are written between the answer and the next request's: a write after that is the last one.
        self.get(unit, "ControlGroup")

    def get(self, unit: str, name: str) -> Property:
        """A property of a scope."""
        try:
            ((signature, value),) = self._connection.call(
                _unit_path(unit), _PROPERTIES, "Get", "ss", f"{_NAME}.Scope", name
            )
        except dbus.DBusError as error:
            raise _refused(f"read {name} of {unit}", error) from error
        return [name, signature, value]

    def control_group(self) -> str:
        """The manager's own cgroup, ``/`` for the system's: that of all its units."""
        try:
            ((_, value),) = self._connection.call(_PATH, _PROPERTIES, "Get", "ss", _MANAGER, "ControlGroup")
        except dbus.DBusError as error:
            raise _refused("read the manager's cgroup", error) from error
        return value or "/"

    def _manager(self, method: str, signature: str, *values: object) -> list[object]:
        try:
            return self._connection.call(_PATH, _MANAGER, method, signature, *values)
        except dbus.UnreachableError as error:
            raise StepError(f"systemd: {method}: {error.message}") from error

    def _hear_jobs(self) -> None:
        """Before a job is made, or its end could be missed."""
        if not self._hears:
            self._connection.match(_JOB_REMOVED)
            self._manager("Subscribe", "")
            self._hears = True

    def _await(self, job: object, unit: str) -> str:
        """How the job ended: ``done``, ``failed``, ``timeout``, …"""
        deadline = time.monotonic() + PATIENCE
        while (signal := self._connection.signal(deadline)) is not None:
            if signal.member == "JobRemoved" and signal.values[1] == job:
                return str(signal.values[3])
        raise StepError(f"systemd has not finished its job for {unit} within {PATIENCE:g} s")


def _connect(user: bool) -> dbus.Connection:
    failed: Error | None = None
    for address, is_bus in _user_addresses() if user else ((_PRIVATE, False), (_SYSTEM_BUS, True)):
        try:
            return dbus.Connection(address, _NAME, is_bus, PATIENCE)
        except Error as error:
            failed = failed or error
    raise StepError(
        f"cannot talk to systemd: {failed.message if failed else 'no address of a user bus is known'}",
        hint="is DBUS_SESSION_BUS_ADDRESS or XDG_RUNTIME_DIR set?" if user else "is it process 1?",
    )


def _user_addresses() -> list[tuple[str, bool]]:
    addresses = []
    for each in posix.getenv("DBUS_SESSION_BUS_ADDRESS").split(";"):
        transport, _, options = each.partition(":")
        for key, _, value in (option.partition("=") for option in options.split(",")):
            if transport == "unix" and key == "path":
                addresses.append((value, True))
            elif transport == "unix" and key == "abstract":
                addresses.append((f"\0{value}", True))
    directory = session_dir(posix.environ)
    if directory:
        addresses += [(f"{directory}/systemd/private", False), (f"{directory}/bus", True)]
    return addresses


def _unit_path(unit: str) -> str:
    """The object of a unit: bytes other than letters and digits as ``_`` and two hexadecimal digits."""
    name = "".join(character if character in _PLAIN else f"_{ord(character):02x}" for character in unit)
    return f"{_PATH}/unit/{name}"


def _refused(what: str, error: dbus.DBusError) -> StepError:
    return StepError(f"systemd refuses to {what}: {error.message} ({error.name.removeprefix('org.freedesktop.')})")
