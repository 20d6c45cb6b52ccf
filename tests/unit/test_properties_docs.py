"""docs/config.md and docs/properties.md are what tools/pages.py makes, and name steps and tests that exist."""

from __future__ import annotations

import ast
import re

import pytest

from gosudacon.api import Host, Spec
from gosudacon.schema import compiler
from gosudacon.stages.handoff import Handoff
from tests.support.leniency import WARNED
from tests.support.runtime import CHECKOUT
from tests.unit.test_leniency import warnings
from tools import pages
from tools.properties import PROPERTIES


@pytest.mark.parametrize("name", pages.PAGES)
def test_up_to_date(name: str) -> None:
    """Made anew by ``python tools/pages.py``."""
    assert (CHECKOUT / name).read_text() == pages.page(name)


def test_every_property_has_a_row() -> None:
    places = [place for place, _, _ in pages.config()]
    assert len(places) > 200
    assert [place for place in PROPERTIES if place not in places] == []
    for place in places:
        if place not in ("linux", "linux.namespaces"):
            pages.rule(place)


def test_steps_exist() -> None:
    known = pages.stages()
    for steps, _, _ in PROPERTIES.values():
        assert steps.startswith("- ") or all(name in known for name in steps.split()), steps


def test_tests_exist() -> None:
    for test in {test for _, test, _ in PROPERTIES.values()}:
        file, _, function = test.partition("::")
        tree = ast.parse((CHECKOUT / "tests" / file).read_text())
        names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert not function or function in names, test


def test_what_warns_is_tried() -> None:
    """Each place that the table has a warning for is one that a warning of the tried configurations names."""
    places = {place for place, schema, _ in pages.config() if "warns" in schema}
    tried = {"linux.resources.memory.kernelTCP", "linux.seccomp.defaultErrnoRet", "linux.personality.flags"}
    tried |= {"process.scheduler.nice"}  # in tests of their own
    for changes, _ in WARNED:
        for text in warnings(changes):
            where = text.partition(": ")[0]
            tried |= {re.sub(r"\[\d+\]", "[]", where), re.sub(r"\[[^]]*\]$", "", where)}
    assert places <= tried, places - tried


def test_words_have_no_say() -> None:
    assert {"default", "read", "warns"} <= compiler.NOTES


@pytest.mark.parametrize("policy", ["SCHED_FIFO", "SCHED_RR"])
def test_real_time(policy: str) -> None:
    """Not every machine lets a cgroup have real-time processes."""
    process = {"args": ["x"], "cwd": "/", "scheduler": {"policy": policy, "priority": 7}}
    steps = Handoff().plan(Spec({"process": process}, "x", "/b"), Host())  # type: ignore[typeddict-item]
    assert f"sched_setattr({policy}, nice 0, priority 7)" in [step.describe() for step in steps]
