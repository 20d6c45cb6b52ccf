"""The completion for bash: one function, which needs nothing but bash."""

from __future__ import annotations

from gosudacon.cli import option_values
from gosudacon.cli import options as table
from gosudacon.cli.completion import marker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# The words are put together again where bash has split them at "=". What is written in lists is of letters,
# digits and a few harmless characters; ids of containers are not given to `compgen -W`, which expands words.
_TEMPLATE = """\
{marker}

# What the options of a command, or the global ones for "", are.
{function}_options() {{
    case "$1" in
{options}
    esac
}}

# What the value of an option is, or the argument of a command with this number (any above the last is the last).
{function}_value() {{
    case "$1" in
{values}
        *) return 1 ;;
    esac
}}

# Reply with the values of kind $1 (or words) that begin with $2, each with $3 before it.
{function}_reply() {{
    local -a found=()
    local id
    case "$1" in
        file) compopt -o filenames; mapfile -t found < <(compgen -f -- "$2") ;;
        directory) compopt -o filenames; mapfile -t found < <(compgen -d -- "$2") ;;
        either) compopt -o filenames; mapfile -t found < <(compgen -d -- "$2") ;;&
        container|either)
            while IFS= read -r id; do
                [[ $id == "$2"* ]] && found+=("$id")
            done < <({command} "${{root[@]}}" list --quiet 2>/dev/null </dev/null) ;;
        *) mapfile -t found < <(compgen -W "$1" -- "$2") ;;
    esac
    COMPREPLY=("${{found[@]/#/$3}}")
}}

{function}() {{
    local -a line=() root=()
    local word topic= option= glued= stop= current kind
    local -i index count=0
    COMPREPLY=()
    for ((index = 1; index <= COMP_CWORD; index++)); do
        word=${{COMP_WORDS[index]}}
        if [[ $word == "=" && ${{#line[@]}} -gt 0 && ${{line[-1]}} == -* && -z $glued ]]; then
            line[-1]+="="
            glued=yes
        elif [[ $glued ]]; then
            line[-1]+=$word
            glued=
        else
            line+=("$word")
        fi
    done
    [[ ${{COMP_WORDS[COMP_CWORD]}} == "=" ]] && glued=yes
    current=${{line[-1]}}
    for word in "${{line[@]:0:${{#line[@]}}-1}}"; do
        if [[ $option ]]; then
            [[ $option == --root ]] && root=(--root "$word")
            option=
        elif [[ $stop ]]; then
            count+=1
        elif [[ $word == -- ]]; then
            stop=yes
        elif [[ $word == --root=* ]]; then
            root=("$word")
        elif [[ $word == -* ]]; then
            [[ $word == *=* ]] || {function}_value "$topic $word" >/dev/null && option=$word
        elif [[ -z $topic ]]; then
            topic=$word
        else
            count+=1
            case "$topic" in {stops}) stop=yes ;; esac
        fi
    done
    if [[ $option ]]; then
        kind=$({function}_value "$topic $option") && {function}_reply "$kind" "$current" ""
    elif [[ -z $stop && $current == --*=* ]]; then
        option=${{current%%=*}}
        kind=$({function}_value "$topic $option") || return 0
        if [[ ${{COMP_WORDS[COMP_CWORD]}} == --*=* ]]; then
            {function}_reply "$kind" "${{current#*=}}" "$option="
        else
            {function}_reply "$kind" "${{current#*=}}" ""
        fi
    elif [[ -z $stop && $current == -* ]]; then
        {function}_reply "$({function}_options "$topic")" "$current" ""
    elif [[ -z $topic ]]; then
        {function}_reply "{commands}" "$current" ""
    else
        kind=$({function}_value "$topic $count" || {function}_value "$topic +") || return 0
        {function}_reply "$kind" "$current" ""
    fi
    return 0
}}

complete -F {function} {name}
"""


def script(name: str, function: str, command: str) -> str:
    """The script for the command ``name``, whose functions begin with ``function``; ``command`` lists containers."""
    return _TEMPLATE.format(
        marker=marker(name),
        name=name,
        function=function,
        command=command,
        commands=" ".join(table.every()),
        stops="|".join(key for key in table.every() if table.every()[key]["stop"]),
        options="\n".join(_options()),
        values="\n".join(_values()),
    )


def _topics() -> Iterable[tuple[str, Sequence[table.Option]]]:
    yield "", option_values.globals_()
    for name in table.every():
        yield name, option_values.options(name)


def _options() -> Iterable[str]:
    for topic, options in _topics():
        words = " ".join(word for option in options for word in option_values.spellings(option))
        yield f'        "{topic}") echo "{words}" ;;'


def _values() -> Iterable[str]:
    for topic, options in _topics():
        for option in options:
            if option.kind != "flag":
                names = "|".join(f'"{topic} {word}"' for word in option_values.spellings(option))
                yield f'        {names}) echo "{_value(*option_values.value(option))}" ;;'
    for topic in table.every():
        found = option_values.arguments(topic)
        for number, argument in enumerate(found):
            rest = option_values.repeats(topic) and number == len(found) - 1
            yield f'        "{topic} {"+" if rest else number}") echo "{_value(*argument)}" ;;'


def _value(kind: str, choices: tuple[str, ...]) -> str:
    if kind == option_values.COMMAND:
        choices = tuple(table.every())
    elif kind == option_values.SIGNAL:
        choices = tuple(option_values.signals())
    return " ".join(choices) or kind
