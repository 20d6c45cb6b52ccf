"""Completions in the real shells: what they offer for a line on which Tab is pressed."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
from pathlib import Path

from tests.support.timing import seconds

_BASH = """\
PS1='ready'
bind 'set enable-bracketed-paste off'
bind '"\\C-o": insert-completions'
dump() { printf '%s' "$READLINE_LINE" > "$OUTPUT"; exit; }
bind -x '"\\C-t": dump'
source "$SCRIPT"
"""

# compadd is what all completions of zsh end in; here it writes down what it would offer.
_ZSH = """\
PS1='ready'
autoload -Uz compinit
compinit -u -D
compadd() {
    if [[ ${@[1,(i)(-|--)]} != *-(O|A|D)\\ * ]]; then
        local -a found
        builtin compadd -A found "$@"
        print -rl -- $found >> $OUTPUT.all
    fi
    builtin compadd "$@"
}
dump() { touch $OUTPUT.all; mv $OUTPUT.all $OUTPUT; exit }
zle -N dump
bindkey '^I' complete-word
bindkey '^T' dump
source $SCRIPT
"""


def complete(shell: str, script: str, line: str, directory: Path) -> list[str]:
    """What ``shell``, which has read ``script``, offers for the last word of ``line``: sorted, each once.

    The shell runs in ``directory``, without a user's configuration.
    """
    home = directory / f".{shell}"
    home.mkdir(exist_ok=True)
    path = home / "script"
    path.write_text(script)
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](line, path, directory)


def _environment(script: Path) -> dict[str, str]:
    home = str(script.parent)
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": home,
        "XDG_CONFIG_HOME": home,
        "XDG_DATA_HOME": home,
        "TERM": "dumb",
        "SCRIPT": str(script),
        "OUTPUT": f"{home}/output",
        "ZDOTDIR": home,
        "LC_ALL": "C.UTF-8",
    }


def _fish(line: str, script: Path, directory: Path) -> list[str]:
    words = ["fish", "--no-config", "-c", "source $SCRIPT; complete -C $argv[1]", line]
    result = subprocess.run(
        words, capture_output=True, text=True, cwd=directory, env=_environment(script), timeout=seconds(30)
    )
    if result.returncode != 0 or result.stderr:
        raise AssertionError(result.stderr)
    return sorted({offer.split("\t")[0] for offer in result.stdout.splitlines()})


def _bash(line: str, script: Path, directory: Path) -> list[str]:
    start = script.with_name("rc")
    start.write_text(_BASH)
    typed = _type(["bash", "--noprofile", "--rcfile", str(start), "-i"], line, "\x0f\x14", script, directory)
    if typed == line:
        return []
    kept = line[: line.rfind(" ") + 1]
    return sorted(set(typed.removeprefix(kept).split()))


def _zsh(line: str, script: Path, directory: Path) -> list[str]:
    script.with_name(".zshrc").write_text(_ZSH)
    return sorted(set(_type(["zsh", "-i", "-d"], line, "\t\x14", script, directory).split()))


def _type(words: list[str], line: str, keys: str, script: Path, directory: Path) -> str:
    """Type ``line`` and ``keys`` into an interactive shell on a terminal; what it has written to $OUTPUT."""
    output = script.with_name("output")
    output.unlink(missing_ok=True)
    if shutil.which(words[0]) is None:
        raise FileNotFoundError(words[0])
    master, slave = pty.openpty()
    try:
        child = subprocess.Popen(
            words,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=directory,
            env=_environment(script),
            start_new_session=True,
        )
        os.close(slave)
        try:
            screen = _read(master, b"ready")
            os.write(master, (line + keys).encode())
            screen += _read(master)
        finally:
            child.kill()
            child.wait()
    finally:
        os.close(master)
    if not output.exists():
        raise AssertionError(f"{words[0]} has not completed {line!r}: {screen!r}")
    return output.read_text()


def _read(master: int, last: bytes = b"") -> bytes:
    """What the shell prints until it ends, or says ``last``; or says nothing for long."""
    screen = b""
    while not (last and last in screen) and select.select([master], [], [], seconds(10))[0]:
        try:
            data = os.read(master, 4096)
        except OSError:  # EIO: no process has the terminal open any more
            break
        screen += data
    return screen
