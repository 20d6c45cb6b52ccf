"""Verdicts of a saved audit, for the steps of a plan that is shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gosudacon.audit import saved
from gosudacon.base.errors import Error

STEPS = ["make it", "mount it", "execute it"]


def finding(number: int, step: str, verdict: str) -> dict[str, Any]:
    return {"property": "p", "verdict": verdict, "number": number, "step": step}


def written(path: Path, *findings: dict[str, Any], id: str = "web", more: Any = ()) -> str:
    (path / "a.json").write_text(json.dumps({"containers": [{"id": id, "findings": [*findings]}, *more], "failed": []}))
    return str(path / "a.json")


def test_the_gravest_of_each_step(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        finding(1, "make it", "enforced"),
        finding(1, "make it", "NOT ENFORCED"),
        finding(1, "make it", "drifted"),
        finding(2, "mount it", "enforced"),
        {"property": "processes", "verdict": "drifted"},
        more=[{"id": "other", "findings": [finding(3, "execute it", "drifted")]}],
    )
    assert saved.verdicts(path, "web", STEPS) == {0: "NOT ENFORCED", 1: "enforced"}


def test_another_plan(tmp_path: Path) -> None:
    path = written(tmp_path, finding(1, "mount it", "enforced"), finding(9, "mount it", "enforced"))
    with pytest.raises(Error, match="an audit of another plan"):
        saved.verdicts(path, "web", STEPS)
    two = written(tmp_path, id="one", more=[{"id": "two", "findings": []}])
    with pytest.raises(Error, match="no audit of the container web"):
        saved.verdicts(two, "web", STEPS)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "invalid JSON"), ("[]", "not an audit"), ('{"containers": [1]}', "not an audit"), (None, "no such file")],
)
def test_what_is_not_an_audit(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "a.json").write_text(text)
    with pytest.raises(Error, match=message):
        saved.verdicts(str(tmp_path / "a.json"), "web", STEPS)
