"""The completion for fish (complete(1))."""

from __future__ import annotations

from gosudacon.cli import option_values
from gosudacon.cli import options as table
from gosudacon.cli.completion import marker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_TEMPLATE = """\
{marker}

# The command, and how many arguments follow it, before the cursor; "stop" where options have ended.
function {function}_place
    set -l line (commandline -opc)
    set -e line[1]
    set -l topic ''
    set -l count 0
    set -l stop
    while set -q line[1]
        if set -q stop[1]
            set count (math $count + 1)
        else if test "$line[1]" = --
            set stop stop
        else if string match -q -- '-*' $line[1]
            contains -- "$topic $line[1]" {valued}
            and set -e line[1]
        else if test -z "$topic"
            set topic $line[1]
        else
            set count (math $count + 1)
            contains -- $topic {stops}
            and set stop stop
        end
        set -e line[1]
    end
    printf '%s\\n' "$topic" $count $stop
end

# Whether an option of the command $argv[1] ('': a global one, or a command) may come at the cursor.
function {function}_option
    set -l place ({function}_place)
    test "$place[1]" = "$argv[1]"; and not set -q place[3]
end

# Whether argument $argv[2] of the command $argv[1], or with + a later one, is at the cursor.
function {function}_argument
    set -l place ({function}_place)
    test "$place[1]" = "$argv[1]"; or return 1
    test "$place[2]" = "$argv[2]"; and return 0
    test "$argv[3]" = +; and test $place[2] -gt $argv[2]
end

function {function}_containers
    set -l line (commandline -opc)
    set -l root
    while set -q line[1]
        switch $line[1]
            case --root
                set root --root $line[2]
            case '--root=*'
                set root $line[1]
        end
        set -e line[1]
    end
    {command} $root list --quiet 2>/dev/null </dev/null
end

complete -c {name} -f
{lines}
"""


def script(name: str, function: str, command: str) -> str:
    """The script for the command ``name``, whose functions begin with ``function``; ``command`` lists containers."""
    return _TEMPLATE.format(
        marker=marker(name),
        name=name,
        function="_" + function,
        command=command,
        valued=" ".join(_valued()),
        stops=" ".join(key for key in table.every() if table.every()[key]["stop"]),
        lines="\n".join(f"complete -c {name} {line}" for line in _lines("_" + function)),
    )


def _valued() -> Iterable[str]:
    """``'create --bundle'`` and so on: the options that take the word after them."""
    for topic in ("", *table.every()):
        for option in option_values.options(topic) if topic else option_values.globals_():
            if option.kind != "flag":
                yield from (_quoted(f"{topic} {word}") for word in option_values.spellings(option))


def _lines(function: str) -> Iterable[str]:
    here = _quoted(f"{function}_option ''")
    for option in option_values.globals_():
        yield f"-n {here} {_option(option, function)}"
    for name in table.every():
        yield f"-n {here} -a {name} -d {_quoted(table.every()[name]['summary'])}"
    for name in table.every():
        condition = _quoted(f"{function}_option {name}")
        for option in option_values.options(name):
            yield f"-n {condition} {_option(option, function)}"
        found = option_values.arguments(name)
        for number, argument in enumerate(found):
            more = " +" if option_values.repeats(name) and number == len(found) - 1 else ""
            action = _action(*argument, function)
            if action:
                yield f"-n {_quoted(f'{function}_argument {name} {number}{more}')} {action}"


def _option(option: table.Option, function: str) -> str:
    spelled = f"-l {option.name}" + (f" -s {option.short}" if option.short else "")
    value = ""
    if option.kind != "flag":
        action = _action(*option_values.value(option), function)
        value = f" -r {action}" if action == "-F" else f" -x {action}".rstrip()
    return f"{spelled}{value} -d {_quoted(option.help)}"


def _action(kind: str, choices: tuple[str, ...], function: str) -> str:
    if kind == option_values.COMMAND:
        choices = tuple(table.every())
    elif kind == option_values.SIGNAL:
        choices = tuple(option_values.signals())
    if choices:
        return f"-a {_quoted(' '.join(choices))}"
    return {
        option_values.FILE: "-F",
        option_values.DIRECTORY: "-a '(__fish_complete_directories)'",
        option_values.CONTAINER: f"-a '({function}_containers)'",
        option_values.EITHER: f"-a '(__fish_complete_directories; {function}_containers)'",
    }.get(kind, "")


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
