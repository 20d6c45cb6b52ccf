"""argv to an `Invocation`, with runc's habits.

Global options come before the command, those of the command before or after its arguments (before them
only, where the table says so). ``--name value``, ``--name=value``, ``-name value`` and ``-n value`` are the
same; ``--`` ends options; of an option given twice the last counts.
"""

from __future__ import annotations

from gosudacon.base.errors import Error
from gosudacon.cli import options as table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    Values = dict[str, Any]  # name of an option -> bool, int, str or a list of str

    from gosudacon.cli.log import Log
    from gosudacon.container.caller import Caller
    from gosudacon.trace.record import Recorder, Recording, TraceSettings

_TRUE = ("true", "1", "t", "T", "TRUE", "True")
_FALSE = ("false", "0", "f", "F", "FALSE", "False")
_INT_MAX = 2**31 - 1


class Invocation:
    """One call of the program.

    ``command`` is one of `options.every`, or ``version``. ``globals`` and ``options`` hold a value for
    every option there is, its default unless its name is in ``given``; ``former`` has those that were given by a name
    which they had: name -> that name. ``args`` are the positional
    arguments; for ``help`` the only one, if any, is the command that help is wanted on. ``log`` is where
    warnings go, once it is open. ``recorder`` takes the times of a command that is traced, ``recording`` writes them.
    ``caller`` is what the command's operation was given, if it got that far.
    """

    __slots__ = ("args", "caller", "command", "former", "given", "globals", "log", "options", "recorder", "recording")

    log: Log

    def __init__(self) -> None:
        self.caller: Caller | None = None
        self.command = ""
        self.globals: Values = {}
        self.options: Values = {}
        self.args: list[str] = []
        self.given: set[str] = set()
        self.former: dict[str, str] = {}
        self.recorder: Recorder | None = None
        self.recording: Recording | None = None

    def wanted_by(self, settings: TraceSettings | None) -> Recorder | None:
        """The recorder of this command, begun now if these settings of the administrator's ask for it."""
        if settings and self.recorder is None:
            from gosudacon.trace import record

            record.begin_by(self, settings)
        return self.recorder

    @property
    def prefix(self) -> str:
        """What the message of this command's failure begins with."""
        command = table.find(self.command)
        return command["prefix"] if command else ""

    @property
    def failure(self) -> int:
        """The exit status when this command fails."""
        command = table.find(self.command)
        return command["failure"] if command else 1


class UsageError(Error):
    """The command line makes no sense.

    ``heading`` is where ``Incorrect Usage`` goes: ``stderr`` (with the message), ``stdout`` (without) or
    nowhere. With a heading comes the help of the command ``topic`` (the program's, if empty), on stdout.
    ``invocation`` is what was understood before the error: its ``--log`` gets the message too.
    """

    def __init__(self, message: str, exit_code: int = 1, heading: str = "", topic: str = "") -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.heading = heading
        self.topic = topic
        self.invocation = Invocation()


def parse(argv: Sequence[str]) -> Invocation:
    """Parse the words after the program's name, as the system decoded them (surrogateescape).

    Raises `UsageError`, and nothing else.
    """
    invocation = Invocation()
    try:
        _parse(invocation, argv)
    except UsageError as error:
        error.invocation = invocation
        raise
    return invocation


def _parse(invocation: Invocation, argv: Sequence[str]) -> None:
    words = _scan(argv, table.GLOBALS, invocation.globals, invocation.given, invocation.former, True, "")
    if invocation.globals.pop("help"):
        invocation.command = "help"
        return
    if invocation.globals.pop("version"):
        invocation.command = "version"
        return
    name = "help" if not words or words[0] == "h" else words[0]
    command = table.find(name)
    if command is None:
        raise UsageError(f"No help topic for '{name}'", 3)
    invocation.command = name
    given, former = invocation.given, invocation.former
    invocation.args = _scan(words[1:], command["options"], invocation.options, given, former, command["stop"], name)
    if invocation.options.pop("help"):
        invocation.command, invocation.args = "help", [name]
        return
    _check_count(name, len(invocation.args), *command["positionals"])
    if name == "help":
        _check_topic(invocation.args)


def _scan(
    words: Sequence[str],
    options: Sequence[table.Option],
    values: Values,
    given: set[str],
    former: dict[str, str],
    stop: bool,
    topic: str,
) -> list[str]:
    """Take the options out of ``words`` into ``values``; returns what is left."""
    known = {}
    for option in options:
        known[option.name] = option
        if option.short:
            known[option.short] = option
        if option.former:
            known[option.former] = option
        values[option.name] = [] if option.kind == "list" else option.default
    rest: list[str] = []
    position, end = 0, len(words)
    while position < end:
        word = words[position]
        position += 1
        if word == "--":
            return [*rest, *words[position:]]
        if word[:1] != "-" or word == "-":
            if stop:
                return list(words[position - 1 :])
            rest.append(word)
            continue
        spelled, equals, value = word[2 if word[1] == "-" else 1 :].partition("=")
        if not spelled or spelled[0] == "-":
            raise UsageError(f"bad flag syntax: {word}", heading="stderr", topic=topic)
        found = known.get(spelled)
        if found is None:
            message = f"flag provided but not defined: -{spelled}"
            raise UsageError(message, heading="stderr", topic=topic)
        name, kind = found.name, found.kind
        if not equals and kind == "flag":
            value = "true"
        elif not equals:
            if position == end:
                raise UsageError(f"flag needs an argument: {word}", heading="stderr", topic=topic)
            value = words[position]
            position += 1
        given.add(name)
        if spelled == found.former:
            former[name] = spelled
        if kind == "str":
            values[name] = value
        elif kind == "list":
            values[name].append(value)
        else:
            values[name] = _convert(found, value, topic)
    return rest


def _convert(option: table.Option, value: str, topic: str) -> bool | int | str:
    name, kind, metavar = option.name, option.kind, option.metavar
    problem = "parse error"
    if kind == "flag":
        if value in _TRUE or value in _FALSE:
            return value in _TRUE
        message = f"invalid boolean value {_quote(value)} for -{name}: {problem}"
        raise UsageError(message, heading="stderr", topic=topic)
    if kind == "int":
        # Not int(): it takes " 1", "+1", "1_0" and the digits of every script.
        if value.isascii() and value.isdigit() and (value == "0" or value[0] != "0"):
            if len(value) <= 10 and int(value) <= _INT_MAX:
                return int(value)
            problem = "value out of range"
    elif kind == "str-bool":
        if value in _TRUE or value in _FALSE or value == "auto":
            return value if value == "auto" else ("true" if value in _TRUE else "false")
    else:
        if value in metavar.split("|"):
            return value
        if name == "format":
            raise UsageError("invalid format option")
        problem = f"must be one of {metavar.replace('|', ', ')}"
    message = f"invalid value {_quote(value)} for flag -{name}: {problem}"
    raise UsageError(message, heading="stderr", topic=topic)


def _check_count(name: str, count: int, fewest: int, most: int) -> None:
    if count >= fewest and (most < 0 or count <= most):
        return
    if fewest == most:
        need = f"exactly {fewest}"
    elif count < fewest:
        need = f"a minimum of {fewest}"
    else:
        need = f"a maximum of {most}"
    message = f'{table.PROGRAM}: "{name}" requires {need} argument(s)'
    raise UsageError(message, heading="stdout", topic=name)


def _check_topic(args: list[str]) -> None:
    args[:] = ["help" if topic == "h" else topic for topic in args]
    for topic in args:
        if table.find(topic) is None:
            raise UsageError(f"No help topic for '{topic}'", 3)


def _quote(value: str) -> str:
    from gosudacon.cli.log import quote  # only when there is something to complain about

    return quote(value)
