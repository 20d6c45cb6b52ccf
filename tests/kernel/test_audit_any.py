"""Any configuration that this machine can run: nothing is wrong with what gosudacon makes of it.

GOSUDACON_TEST_EXAMPLES=N tries N configurations, chosen anew.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings

from tests.support.audits import BAD, audit
from tests.support.bundle import Bundle
from tests.support.needs import needs
from tests.support.runtime import Runtime
from tests.support.sound import changes, merge

pytestmark = needs("root", "busybox", "runtime:gosudacon")

EXAMPLES = int(os.environ.get("GOSUDACON_TEST_EXAMPLES", "0"))


@settings(
    max_examples=EXAMPLES or 25,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
)
@given(wanted=changes())
def test_nothing_is_wrong(runtime: Runtime, make_bundle: Callable[..., Bundle], wanted: list[dict[str, Any]]) -> None:
    bundle = make_bundle()
    for change in json.loads(json.dumps(wanted).replace("@BUNDLE@", str(bundle.path))):
        merge(bundle.config, change)
    bundle.write()
    try:
        if runtime.run(bundle, "--detach", check=False).returncode:
            return  # refused: tests/kernel/test_beside_runc.py looks at that
        if runtime.status(bundle) != "running":
            return
        report = audit(runtime, bundle, "--seccomp=program")
        wrong = [each for each in report.findings if each["verdict"] in BAD]
        assert [each for each in wrong if "libseccomp does not know" not in each["asked"]] == []  # which is true
    finally:
        runtime.clean()
        shutil.rmtree(bundle.path)
