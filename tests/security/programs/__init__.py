"""Static programs for images: what a shell cannot ask the kernel, or not fast enough."""

from __future__ import annotations

import subprocess
from pathlib import Path

HERE = Path(__file__).parent


def build(name: str, target: Path) -> Path:
    """Compile ``NAME.c`` of this directory to the static program ``target``."""
    subprocess.run(
        ["gcc", "-O1", "-Wall", "-Werror", "-static", "-o", str(target), str(HERE / f"{name}.c")], check=True
    )
    return target
