"""Static programs for images: what a shell cannot ask the kernel, or not fast enough."""

from __future__ import annotations

import subprocess
from pathlib import Path

HERE = Path(__file__).parent


def build(name: str, target: Path, *flags: str) -> Path:
    """Compile ``NAME.c`` of this directory to ``target``, a static program unless ``flags`` say otherwise."""
    command = ["gcc", "-O1", "-Wall", "-Werror", *(flags or ("-static",)), "-o", str(target), str(HERE / f"{name}.c")]
    subprocess.run(command, check=True)
    return target
