"""Compile the launcher: ``python -m gosudacon.launcher.build [TARGET]``.

The package's build loads this file by its path, so it imports nothing but the standard library.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_name("launcher.c")
_COMPILERS = ("cc", "gcc", "clang")
_FLAGS = (
    *("-O2", "-std=gnu11", "-Wall", "-Wextra", "-s"),
    *("-static", "-fno-pie", "-no-pie"),
    "-Wl,-z,noseparate-code",  # constants in the text's segment, where what Python calls finds them (pages.h)
    *("-nostdlib", "-ffreestanding", "-fno-stack-protector", "-fno-asynchronous-unwind-tables"),
)


class Unavailable(Exception):
    """The launcher cannot be built here; the message says why."""


def build(target: str | Path, source: Path = SOURCE) -> None:
    """Compile ``source`` to the static program ``target``, complete or not at all.

    The compiler is ``$CC``, or the first of cc, gcc and clang; neither C library nor headers are needed.
    Raises `Unavailable` if there is no compiler or it does not manage (an architecture that the source does not
    know, for example).
    """
    target = Path(target)
    draft = target.with_name(f".{target.name}.new")
    command = [*_compiler(), *_FLAGS, "-o", str(draft), str(source)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
        draft.replace(target)
    except OSError as error:
        raise Unavailable(f"{command[0]}: {error.strerror}") from error
    except subprocess.CalledProcessError as error:
        raise Unavailable(f"{shlex.join(command)}:\n{error.stderr.strip()}") from error
    finally:
        draft.unlink(missing_ok=True)


def _compiler() -> list[str]:
    if os.environ.get("CC"):
        return shlex.split(os.environ["CC"])
    for name in _COMPILERS:
        if shutil.which(name):
            return [name]
    raise Unavailable("no C compiler (cc, gcc or clang)")


if __name__ == "__main__":
    try:
        build(sys.argv[1] if len(sys.argv) > 1 else SOURCE.with_name("launcher"))
    except Unavailable as reason:
        sys.exit(f"cannot build the launcher: {reason}")
