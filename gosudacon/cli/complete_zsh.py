"""The completion for zsh, by its `_arguments` (zshcompsys(1))."""

from __future__ import annotations

from gosudacon.cli import option_values
from gosudacon.cli import options as table
from gosudacon.cli.completion import marker

_TEMPLATE = """\
#compdef {name}
{marker}

{function}_containers() {{
    local -a root found
    local -i index=${{everything[(I)--root]}}
    root=(${{(M)everything:#--root=*}})
    (( index )) && root=(--root ${{(Q)everything[index + 1]}})
    found=(${{(f)"$({command} ${{root[1,2]}} list --quiet 2>/dev/null </dev/null)"}})
    _describe -t containers container found
}}

{function}_either() {{
    _alternative 'containers:container:{function}_containers' 'directories:directory:_files -/'
}}

{function}_commands() {{
    local -a found=(
{commands}
    )
    _describe -t commands command found
}}

{function}() {{
    local curcontext=$curcontext state line ret=1
    local -a everything=("${{words[@]}}")
    _arguments -C -S -A '-*' \\
{globals_} \\
        '1: :{function}_commands' \\
        '*:: :->arguments' && ret=0
    [[ $state == arguments ]] || return ret
    curcontext="${{curcontext%:*:*}}:{name}-${{words[1]}}:"
    case ${{words[1]}} in
{cases}
    esac
    return ret
}}

# Read by compinit, this file is the function's body; sourced, it defines it.
if [[ $funcstack[1] == _{name} ]]; then
    {function} "$@"
else
    compdef {function} {name}
fi
"""


def script(name: str, function: str, command: str) -> str:
    """The script for the command ``name``, whose functions begin with ``function``; ``command`` lists containers."""
    return _TEMPLATE.format(
        marker=marker(name),
        name=name,
        function=function,
        command=command,
        commands="\n".join(
            f"        {_quoted(_escaped(key) + ':' + table.every()[key]['summary'])}" for key in table.every()
        ),
        globals_=" \\\n".join(f"        {_option(option, function)}" for option in option_values.globals_()),
        cases="\n".join(_case(key, function) for key in table.every()),
    )


def _case(name: str, function: str) -> str:
    specs = [_option(option, function) for option in option_values.options(name)]
    found = option_values.arguments(name)
    for number, argument in enumerate(found, 1):
        last = number == len(found) and option_values.repeats(name)
        specs.append(_quoted(f"{'*' if last else number}: :{_action(*argument, function)}"))
    stop = "-A '-*' " if table.every()[name]["stop"] else ""
    joined = "".join(f" \\\n                {spec}" for spec in specs)
    return f"        {name})\n            _arguments -S {stop}{joined} && ret=0 ;;".replace(" " * 2 + "\\\n", " \\\n")


def _option(option: table.Option, function: str) -> str:
    name, short, kind = option.name, option.short, option.kind
    note = option.help.replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]")
    value = (
        ""
        if kind == "flag"
        else f":{option.metavar.replace(':', chr(92) + ':')}:{_action(*option_values.value(option), function)}"
    )
    equals = "" if kind == "flag" else "="
    before = "*" if kind == "list" else (f"(-{short} --{name})" if short else "")
    if not short:
        return _quoted(f"{before}--{name}{equals}[{note}]{value}")
    return f"{_quoted(before)}{{-{short},--{name}{equals}}}{_quoted(f'[{note}]{value}')}"


def _action(kind: str, choices: tuple[str, ...], function: str) -> str:
    if kind == option_values.SIGNAL:
        choices = tuple(option_values.signals())
    if choices:
        return f"({' '.join(choices)})"
    return {
        option_values.FILE: "_files",
        option_values.DIRECTORY: "_files -/",
        option_values.CONTAINER: f"{function}_containers",
        option_values.EITHER: f"{function}_either",
        option_values.COMMAND: f"{function}_commands",
    }.get(kind, " ")


def _escaped(text: str) -> str:
    return text.replace(":", "\\:")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
