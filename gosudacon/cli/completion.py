"""``gosudacon completion``: completions for bash, zsh and fish, made from the table of options."""

from __future__ import annotations

import re
import shlex
import sys

from gosudacon.base.errors import Error
from gosudacon.cli import options as table
from gosudacon.cli import output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.cli.parse import Invocation

SHELLS = ("bash", "zsh", "fish")


def run(invocation: Invocation) -> int:
    """Print the completion for one shell. Raises `Error` for an unknown one, OSError."""
    output.write(text(invocation.args[0], invocation.options["name"]))
    return 0


def text(shell: str, name: str = table.PROGRAM, command: str = "") -> str:
    """The script that teaches ``shell`` to complete the command ``name``.

    For the ids of containers it calls ``command`` (default: ``name``, found by the shell) with the ``--root``
    on the command line. Raises `Error` for a shell that is not in `SHELLS`, and a name no command can have.
    """
    if shell not in SHELLS:
        raise Error(f"no completion for the shell {shell!r}: one of {', '.join(SHELLS)}")
    check_name(name)
    module = f"gosudacon.cli.complete_{shell}"
    __import__(module)
    script: str = sys.modules[module].script(name, function_name(name), shlex.quote(command or name))
    return script


def check_name(name: str) -> None:
    """Raise `Error` unless ``name`` is of letters, digits and ``_+.-``: it goes into scripts and names of files."""
    if not re.fullmatch(r"[A-Za-z0-9_+-][A-Za-z0-9_.+-]*", name):
        raise Error(f"invalid name of a command: {name!r}")


def function_name(name: str) -> str:
    """A name for shell functions: of letters, digits and underscores."""
    return "_" + "".join(char if char.isalnum() else "_" for char in name)


def marker(name: str, comment: str = "#") -> str:
    """The line in every file made for the command ``name`` by which ``uninstall`` knows it again."""
    return f"{comment} Made by gosudacon for the command {name}; `gosudacon uninstall` removes it."
