"""The bundles in examples/, and what examples/README.md says that each prints."""

from __future__ import annotations

import re

from tests.support.runtime import CHECKOUT

EXAMPLES = CHECKOUT / "examples"
README = (EXAMPLES / "README.md").read_text()
BUNDLES = sorted(path.parent.name for path in EXAMPLES.glob("*/config.json"))


def output(name: str) -> str:
    """The output of the example's container; empty if the README does not show it."""
    section = README.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    shown = re.search(r"^```text\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return shown[1] if shown else ""
