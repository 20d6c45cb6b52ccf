"""``explain --long``: why each step is done; also of an installed program, which has no docstrings in memory."""

from __future__ import annotations

import json

from tests.support.bundle import Bundle
from tests.support.needs import needs
from tests.support.runtime import Runtime

pytestmark = needs("runtime:gosudacon")


def test_every_step_says_why(runtime: Runtime, bundle: Bundle) -> None:
    data = json.loads(runtime.call("explain", "--long", "--format", "json", bundle.path).stdout)
    for step in data["steps"]:
        assert all(step["about"][name] for name in ("what", "why", "without", "see")), step["step"]
    text = runtime.call("explain", "--long", bundle.path).stdout
    assert text.count("without it: ") == len({step["step"] for step in data["steps"]}), "once for each kind"
    assert "see: pivot_root(2); runtime-spec config.md, Root." in " ".join(text.split())
    assert [line for line in text.splitlines() if line != line.rstrip()] == []
    assert "without it: " not in runtime.call("explain", bundle.path).stdout
