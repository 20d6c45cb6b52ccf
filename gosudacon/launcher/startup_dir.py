"""The startup directory: a directory that makes the interpreter's own start shorter.

The interpreter derives ``sys.path`` from the name it is started by. The launcher starts it by the name of a link in
this directory. Beside the link are a file ``._pth``, which gives ``sys.path`` line by line
(https://docs.python.org/3/library/sys_path_init.html), and a module `encodings` in place of the library's package
(`gosudacon.launcher.encoding`). That is a tenth of the whole start. Nothing but time depends on it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

# What a start must show: our module, the same library as ever, and codecs that only the library has.
_PROOF = """
import sys, encodings
assert encodings.__file__ == sys.argv[1] + "/encodings.pyc", encodings.__file__
assert sys.path == [sys.argv[1], *sys.argv[2:]], sys.path
assert "\\u00e4".encode("latin-1") == b"\\xe4" and "\\u00e4".encode("idna") and encodings.normalize_encoding("x") == "x"
import json
"""


def make(directory: Path, interpreter: str, files: Mapping[str, bytes]) -> str:
    """Make the startup directory and return the name to start the interpreter by; empty if it is of no use here.

    An interpreter that does not do as expected is started by its own name. Raises OSError.
    """
    directory.mkdir()
    for file, content in files.items():
        (directory / file).write_bytes(content)
    link = directory / os.path.basename(interpreter)
    link.symlink_to(interpreter)
    if _works(link, interpreter):
        return str(link)
    shutil.rmtree(directory)
    return ""


def _works(link: Path, interpreter: str) -> bool:
    options = ["-ISB", "-Xutf8"]
    plain = subprocess.run(
        [interpreter, *options, "-c", "import sys; print(*sys.path, sep='\\n', end='')"],
        capture_output=True,
        check=False,
    )
    words = [str(link), *options, "-c", _PROOF, str(link.parent), *os.fsdecode(plain.stdout).split("\n")]
    return subprocess.run(words, executable=interpreter, capture_output=True, check=False).returncode == 0
