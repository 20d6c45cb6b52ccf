"""The home: a directory that makes the interpreter's own start shorter.

The interpreter derives ``sys.path`` from the name it is started by. The launcher starts it by the name of a link in
this directory. Beside the link are a file ``._pth``, which gives ``sys.path`` line by line
(https://docs.python.org/3/library/sys_path_init.html), and a module `encodings` in place of the library's package
(`gosudacon.launcher.encoding`). That is a tenth of the whole start. Nothing but time depends on it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SUFFIX = ".home"
# What a start must show: our module, the same library as ever, and codecs that only the library has.
_PROOF = """
import sys, encodings
assert encodings.__file__ == sys.argv[1] + "/encodings.pyc", encodings.__file__
assert sys.path == [sys.argv[1], *sys.argv[2:]], sys.path
assert "\\u00e4".encode("latin-1") == b"\\xe4" and "\\u00e4".encode("idna") and encodings.normalize_encoding("x") == "x"
import json
"""


def path_of(entry: Path) -> Path:
    """The home that belongs to an entry."""
    return entry.with_suffix(_SUFFIX)


def install(entry: Path, interpreter: str, files: Mapping[str, bytes]) -> str:
    """Make the home of ``entry`` and return the name to start the interpreter by; empty if it is of no use here.

    An interpreter that does not do as expected is started by its own name. Raises OSError.
    """
    home = path_of(entry)
    name = os.path.basename(interpreter)
    if _is_there(home, files, home / name, interpreter):
        return str(home / name)
    home.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{home.name}.", dir=home.parent))
    try:
        draft.chmod(0o755)
        for file, content in files.items():
            (draft / file).write_bytes(content)
            (draft / file).chmod(0o644)
        link = draft / name
        link.symlink_to(interpreter)
        if not _works(link, interpreter):
            return ""
        shutil.rmtree(home, ignore_errors=True)
        draft.rename(home)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return str(home / name)


def homes(directory: Path, name: str) -> Iterator[Path]:
    """The homes of the command ``name``, of whatever interpreter."""
    pattern = re.escape(name) + r"\.[^.]+" + re.escape(_SUFFIX)
    return (path for path in directory.glob("*") if re.fullmatch(pattern, path.name))


def remove(directory: Path, name: str) -> None:
    """Remove the homes of the command ``name``."""
    for path in homes(directory, name):
        shutil.rmtree(path)


def _is_there(home: Path, files: Mapping[str, bytes], link: Path, interpreter: str) -> bool:
    """Whether a home is as it should be, so that commands that start now find nothing missing."""
    if not link.is_symlink() or os.readlink(link) != interpreter:
        return False
    return all((home / file).is_file() and (home / file).read_bytes() == content for file, content in files.items())


def _works(link: Path, interpreter: str) -> bool:
    options = ["-ISB", "-Xutf8"]
    plain = subprocess.run(
        [interpreter, *options, "-c", "import sys; print(*sys.path, sep='\\n', end='')"],
        capture_output=True,
        check=False,
    )
    words = [str(link), *options, "-c", _PROOF, str(link.parent), *os.fsdecode(plain.stdout).split("\n")]
    return subprocess.run(words, executable=interpreter, capture_output=True, check=False).returncode == 0
