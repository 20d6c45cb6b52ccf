"""``--help``, from the table of options: plain text, 80 columns."""

from __future__ import annotations

import textwrap

from gosudacon.cli import options as table
from gosudacon.cli import output
from gosudacon.cli.log import plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from gosudacon.cli.parse import Invocation, UsageError

WIDTH = 80
ABOUT = (
    "gosudacon runs containers from OCI bundles. The configuration of a bundle is turned into a plan, a list "
    "of small steps; `explain` prints the plan and `create` carries it out."
)
EXAMPLES = """\
gosudacon spec --bundle /srv/web       write an example config.json
gosudacon explain /srv/web             what create would do
gosudacon run --bundle /srv/web web    run it in the foreground
gosudacon delete --force web           remove it, running or not
"""


def run(invocation: Invocation) -> int:
    """Print help of the command that ``invocation`` names, or of the program."""
    output.write(text(invocation.args[0] if invocation.args else ""))
    return 0


def hint(error: UsageError) -> str:
    """What was probably meant by a word of the command line that is none."""
    from gosudacon.container.hints import spelling

    topic, word = error.topic, error.message.rpartition(" ")[2]
    if error.message.startswith("No help topic"):
        return spelling.did_you_mean(word.strip("'"), table.every()) or "`help` lists the commands"
    if not error.message.startswith("flag provided but not defined"):
        return ""
    word = word.lstrip("-")
    shown = f"-{word}" if len(word) == 1 else f"--{word}"
    if topic and word in _names(table.GLOBALS):
        return f"{shown} is a global option: write it before {topic}"
    takers = [name for name, each in table.every().items() if word in _names(each["options"])]
    if takers and not topic:
        return f"{shown} is an option of a command: write it after {', '.join(takers)}"
    guess = spelling.closest(word, _names(table.every()[topic]["options"] if topic else table.GLOBALS))
    return f"did you mean --{guess}?" if guess else ""


def _names(options: Sequence[table.Option]) -> list[str]:
    return [name for option in options for name in (option.name, option.short) if name]


def report(error: UsageError) -> None:
    """Print what goes with a usage error; the message itself is for the log to write.

    As runc has it: which option is wrong on stderr, the help on stdout. Never raises OSError: where stdout
    is closed, the message still has to get out.
    """
    if not error.heading:
        return
    try:
        if error.heading == "stderr":
            output.write(f"Incorrect Usage: {plain(error.message)}\n\n", 2)
            output.write(text(error.topic))
        else:
            output.write("Incorrect Usage.\n\n" + text(error.topic))
    except OSError:
        return


def text(topic: str = "") -> str:
    """Help of the command ``topic``, or of the program for an empty one; every line fits `WIDTH` columns."""
    return _command(topic) if topic else _program()


def _program() -> str:
    names = [(name, summary(name)) for name in table.every()]
    return "\n".join(
        (
            "Usage: gosudacon [GLOBAL OPTIONS] COMMAND [OPTIONS] [ARGUMENTS]\n",
            _fill(ABOUT),
            "Commands:\n" + _columns(names),
            "Global options:\n" + _columns(_options(table.GLOBALS)),
            "Examples:\n" + textwrap.indent(EXAMPLES, "  "),
            "See `gosudacon COMMAND --help` for the options of a command.\n",
        )
    )


def _command(name: str) -> str:
    command = table.every()[name]
    usage = " ".join(part for part in ("gosudacon", name, "[OPTIONS]", command["usage"]) if part)
    examples = "".join(f"  gosudacon {line}\n" for line in command["example"].splitlines())
    return "\n".join(
        (
            f"Usage: {usage}\n",
            _fill(f"{sentence(summary(name))} {command['text']}"),
            "Options:\n" + _columns(_options(command["options"])),
            ("Examples:\n" if examples.count("\n") > 1 else "Example:\n") + examples,
        )
    )


def summary(name: str) -> str:
    """What the command does, in a few words."""
    return table.every()[name]["summary"]


def sentence(words: str) -> str:
    """The words with a capital letter and a full stop."""
    return words[:1].upper() + words[1:] + "."


def _options(options: Sequence[table.Option]) -> list[tuple[str, str]]:
    return [_option(option) for option in options]


def _option(option: table.Option) -> tuple[str, str]:
    spelled = f"-{option.short}, --{option.name}" if option.short else f"    --{option.name}"
    if option.metavar:
        spelled += f" {option.metavar}"
    return spelled, described(option)


def described(option: table.Option) -> str:
    """What the option does, with its default."""
    words, default = option.help, option.default
    # Nothing where the default is empty (0 descriptors, no file) or is in the text.
    if option.kind != "flag" and default not in ("", 0, -1) and "default" not in words:
        words += f" (default: {default})"
    return words


def _columns(rows: Sequence[tuple[str, str]]) -> str:
    """Two columns, the second one wrapped; below the first one where that is too wide."""
    width = min(28, max(len(left) for left, _ in rows)) + 4
    lines = []
    for left, right in rows:
        wrapped = textwrap.wrap(right, WIDTH - width) or [""]
        if len(left) + 4 > width:
            lines.append(f"  {left}")
        else:
            lines.append(f"  {left}".ljust(width) + wrapped.pop(0))
        lines += [" " * width + line for line in wrapped]
    return "".join(line.rstrip() + "\n" for line in lines)


def _fill(paragraph: str) -> str:
    return textwrap.fill(paragraph, WIDTH, break_on_hyphens=False) + "\n"
