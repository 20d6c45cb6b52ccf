"""``gosudacon man``: the manual, in section 8, made from the table of options (man(7), groff_man(7))."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import gosudacon
from gosudacon.base import layout
from gosudacon.base.errors import Error
from gosudacon.cli import help as helps
from gosudacon.cli import option_values, output
from gosudacon.cli import options as table
from gosudacon.cli.completion import check_name, marker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gosudacon.cli.parse import Invocation

COMMENT = '.\\"'
_SOURCE = "https://github.com/opencontainers/runtime-spec"
_STATUS = (
    "0 if all went well, and then nothing is written to standard error. A failure is 1, of exec 255, of an unknown "
    "command 3; run and exec in the foreground return the exit status of the process, 128 + N if signal N has ended "
    "it. The reason is one line on standard error, and with --log a record in that file."
)
_FILES = (
    ("/etc/gosudacon/config.toml", "The administrator's configuration: which stages make containers, and with what."),
    (layout.STATE_ROOT, "The state of containers, unless --root names another directory."),
)
_ENVIRONMENT = (
    (
        "XDG_RUNTIME_DIR",
        f"For users other than root, the state of containers is in the directory {layout.USER_STATE_ROOT} below this. "
        "Without it, or where it is another user's, that is below /run/user/UID if that is the user's, else below "
        f"/tmp/{layout.USER_STATE_ROOT}-UID.",
    ),
    ("LISTEN_FDS, LISTEN_PID", "Descriptors that create and run pass on to the container (sd_listen_fds(3))."),
)


def run(invocation: Invocation) -> int:
    """Print one page. Raises `Error` for an unknown command, OSError."""
    command = invocation.args[0] if invocation.args else ""
    output.write(page(command, invocation.options["name"]))
    return 0


def pages(name: str) -> dict[str, str]:
    """All pages of the command ``name``: their titles (without the section), and their text."""
    return {_title(name, command): page(command, name) for command in ("", *table.every())}


def page(command: str = "", name: str = table.PROGRAM) -> str:
    """The page of one command, or of the program; ``name`` is what the program is called where it is installed.

    Raises `Error` for an unknown command and for a name that no command can have.
    """
    check_name(name)
    if command and command not in table.every():
        raise Error(f"No help topic for '{command}'")
    body = _command(name, command) if command else _program(name)
    title = _text(_title(name, command).upper())
    head = f'.TH {title} 8 {_date()} "gosudacon {gosudacon.__version__}" "System administration"'
    return "\n".join([marker(name, COMMENT), head, *body]) + "\n"


def _title(name: str, command: str) -> str:
    return f"{name}-{command}" if command else name


def _date() -> str:
    """The day on which the table was written, or what SOURCE_DATE_EPOCH says (reproducible-builds.org)."""
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    seconds = int(given) if given.isascii() and given.isdigit() else Path(table.__file__).stat().st_mtime
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def _program(name: str) -> Iterable[str]:
    yield from _section("NAME", f"{_text(name)} \\- run containers from OCI bundles")
    yield ".SH SYNOPSIS"
    yield f".B {_text(name)}"
    yield _text("[global options] <command> [options] [arguments]")
    yield from _section("DESCRIPTION", _prose(helps.ABOUT, name))
    yield from _paragraph(
        "Global options come before the command. An option may be written --name value, --name=value or -name "
        "value; -- ends options, and of an option that is given twice the last one counts.",
        name,
    )
    yield ".SH COMMANDS"
    for command in table.every():
        yield from _tagged(f"\\fB{_text(_title(name, command))}\\fR(8)", helps.sentence(helps.summary(command)), name)
    yield ".SH GLOBAL OPTIONS"
    yield from _options(option_values.globals_(), name)
    yield from _section("EXIT STATUS", _prose(_STATUS, name))
    yield ".SH ENVIRONMENT"
    for variable, text in _ENVIRONMENT:
        yield from _tagged(f"\\fB{_text(variable)}\\fR", text, name)
    yield ".SH FILES"
    for path, text in _FILES:
        yield from _tagged(f"\\fI{_text(path)}\\fR", text, name)
    yield from _examples(helps.EXAMPLES.splitlines(), name)
    yield from _see(name, [_title(name, command) for command in table.every()], ["runc(8)", "crun(1)"])


def _command(name: str, command: str) -> Iterable[str]:
    entry = table.every()[command]
    yield from _section("NAME", f"{_text(_title(name, command))} \\- {_text(helps.summary(command))}")
    yield ".SH SYNOPSIS"
    yield f".B {_text(f'{name} {command}')}"
    yield f"[options] {_usage(entry['usage'])}".rstrip()
    yield from _section("DESCRIPTION", _prose(entry["text"], name))
    if entry["stop"]:
        yield from _paragraph("Options come before the arguments; the first argument ends them.", name)
    yield ".SH OPTIONS"
    yield from _options(option_values.options(command), name)
    yield from _paragraph(f"Global options, which come before the command, are in {name}(8).", name)
    status = "0 if all went well"
    if command in ("run", "exec", "learn"):
        status = "In the foreground that of the process, 128 + N if signal N has ended it; with --detach 0 if it runs"
    status += f"; {entry['failure']} after a failure, whose reason is on standard error."
    yield from _section("EXIT STATUS", _prose(status, name))
    yield from _examples([f"{table.PROGRAM} {line}" for line in entry["example"].splitlines()], name)
    yield from _see(name, [name], [])


def _section(title: str, text: str) -> Iterable[str]:
    yield f".SH {title}"
    yield text


def _paragraph(text: str, name: str) -> Iterable[str]:
    yield ".PP"
    yield _prose(text, name)


def _tagged(tag: str, text: str, name: str) -> Iterable[str]:
    yield ".TP"
    yield tag
    yield _prose(text, name)


def _options(options: Sequence[table.Option], name: str) -> Iterable[str]:
    for option in options:
        spelled = ", ".join(f"\\fB{_text(word)}\\fR" for word in reversed(option_values.spellings(option)))
        metavar = f" \\fI{_text(option.metavar)}\\fR" if option.metavar else ""
        yield from _tagged(spelled + metavar, helps.sentence(helps.described(option)), name)


def _usage(text: str) -> str:
    """``<container-id>`` in italics."""
    return re.sub(r"<([^>]*)>", lambda match: f"\\fI{match[1]}\\fR", _text(text))


def _examples(lines: Sequence[str], name: str) -> Iterable[str]:
    yield ".SH EXAMPLES"
    yield ".nf"
    for line in lines:
        yield _text(re.sub(rf"^{table.PROGRAM}\b", name, line.rstrip()))
    yield ".fi"


def _see(name: str, titles: Sequence[str], others: Sequence[str]) -> Iterable[str]:
    yield ".SH SEE ALSO"
    found = [f"\\fB{_text(title)}\\fR(8)" for title in titles]
    found += [f"\\fB{_text(other.partition('(')[0])}\\fR({other.partition('(')[2]}" for other in others]
    yield ",\n".join(found)
    if others:
        yield from _paragraph(f"The specification of bundles and of config.json: {_SOURCE}", name)


def _prose(text: str, name: str) -> str:
    """A paragraph: words in backquotes are bold, references to other pages too, and `gosudacon` is ``name``."""
    parts = re.split(r"`([^`]*)`", text)
    parts[1::2] = [f"\\fB{_text(re.sub(rf'^{table.PROGRAM}', name, part))}\\fR" for part in parts[1::2]]
    parts[::2] = [_references(_text(part)) for part in parts[::2]]
    return "".join(parts)


def _references(text: str) -> str:
    return re.sub(r"\b([a-z_][a-z0-9_.\\-]*)\((\d)\)", r"\\fB\1\\fR(\2)", text)


def _text(text: str) -> str:
    """``text`` with what roff would take for its own escaped, and a hyphen for every minus."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    return "\\&" + escaped if escaped.startswith(".") else escaped
