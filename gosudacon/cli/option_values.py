"""What the table of options says to man pages and shell completions: which options, and what their values are."""

from __future__ import annotations

import re

from gosudacon.cli import options as table

FILE, DIRECTORY, CONTAINER, COMMAND, SIGNAL, ANY = "file", "directory", "container", "command", "signal", ""
EITHER = "either"  # a directory or a container
"""Kinds of values that a shell can complete; of the kind `ANY` nothing is known."""

_KINDS = {
    "FILE": FILE,
    "SOCKET": FILE,
    "DIR": DIRECTORY,
    "container-id": CONTAINER,
    "bundle": DIRECTORY,
    "bundle-or-id": EITHER,
    "directory": DIRECTORY,
    "signal": SIGNAL,
}


def globals_() -> list[table.Option]:
    """The global options that are shown."""
    return list(table.GLOBALS)


def options(command: str) -> list[table.Option]:
    """The options of a command that are shown."""
    return list(table.every()[command]["options"])


def spellings(option: table.Option) -> list[str]:
    """``--bundle`` and ``-b``: long first."""
    return [f"--{option.name}", *([f"-{option.short}"] if option.short else [])]


def value(option: table.Option) -> tuple[str, tuple[str, ...]]:
    """The kind of the option's value, and the words it is one of (none: any). Not for a flag."""
    if re.fullmatch(r"[a-z0-9]+(\|[a-z0-9]+)*", option.metavar):
        return ANY, tuple(option.metavar.split("|"))
    return _KINDS.get(option.metavar, ANY), ()


def arguments(command: str) -> list[tuple[str, tuple[str, ...]]]:
    """Kind and words of each positional argument, as in `value`; the last one's is that of all that follow."""
    name_of_usage = re.findall(r"<([^>]*)>", table.every()[command]["usage"])
    found: list[tuple[str, tuple[str, ...]]] = []
    for name in name_of_usage:
        if command == "help" or (command == "man" and name == "command"):
            found.append((COMMAND, ()))
        elif "|" in name:
            found.append((ANY, tuple(name.split("|"))))
        else:
            found.append((_KINDS.get(name, ANY), ()))
    return found


def repeats(command: str) -> bool:
    """Whether any number of arguments may follow."""
    return table.every()[command]["positionals"][1] < 0


def signals() -> list[str]:
    """The names of signals that ``kill`` knows, without SIG."""
    from gosudacon.cli.kill import SIGNALS

    return list(SIGNALS)
