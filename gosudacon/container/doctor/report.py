"""The rows of a report: what was looked at, what was found, and what to do."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: It is as it should be; something does not work that not every user needs; containers do not work.
OK, LESS, FAILS = "ok", "less", "fails"


class Row:
    """``area`` and ``name`` of what was looked at, ``mark`` (`OK`, `LESS`, `FAILS`), what was ``found``, ``advice``."""

    def __init__(self, area: str, name: str, mark: str, found: str, advice: str = "") -> None:
        self.area = area
        self.name = name
        self.mark = mark
        self.found = found
        self.advice = "" if mark == OK else advice


def examine(config: str, environment: Mapping[bytes, bytes]) -> list[Row]:
    """Look at this host as the calling user sees it. ``config``: the configuration's path, empty for the usual one."""
    return list(_rows(config, environment))


def _rows(config: str, environment: Mapping[bytes, bytes]) -> Iterator[Row]:
    from gosudacon.container import host as hosts
    from gosudacon.container.doctor import cgroups, engines, kernel, programs, user

    host = hosts.gather()
    yield from kernel.rows(host)
    yield from cgroups.rows(host)
    yield from user.rows(environment)
    yield from programs.rows(config)
    yield from engines.rows(environment)
