"""Every step of ours says what it does, why, what would be missing, where to read on: `explain --long` prints it."""

from __future__ import annotations

import ast
import importlib
import marshal
import pkgutil
import re
from pathlib import Path
from typing import Any

import pytest

import gosudacon.plugins
import gosudacon.stages
from gosudacon.api import PREPARE, Context, Step
from gosudacon.launcher import archive
from gosudacon.pipeline import docstrings
from gosudacon.pipeline.step import PlanWarning

#: What several classes have in common, and no plan has itself.
ABSTRACT = {"Limit", "MountStep", "PlanWarning"}
_PAGE = re.compile(r"[\w.-]+\([1-8]\)|runtime-spec |Documentation/|docs/")


def classes() -> list[type[Step]]:
    """All classes of steps of the program."""
    for package in (gosudacon.stages, gosudacon.plugins):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    for name in ("gosudacon.container.criu.steps", "gosudacon.pipeline.exited"):
        importlib.import_module(name)
    found: list[type[Step]] = []
    waiting: list[type[Step]] = [Step]
    for kind in waiting:
        waiting += kind.__subclasses__()
        ours = kind.__module__.startswith(
            ("gosudacon.stages.", "gosudacon.plugins.", "gosudacon.container", "gosudacon.pipe")
        )
        if ours and kind is not Step and kind.__name__ not in ABSTRACT and not kind.__name__.startswith("_"):
            found.append(kind)
    return sorted(set(found), key=lambda kind: (kind.__module__, kind.__qualname__))


@pytest.mark.parametrize("kind", classes(), ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_every_step(kind: type[Step]) -> None:
    assert kind.__doc__ and vars(kind).get("__doc__"), "a docstring of its own"
    about = docstrings.about(kind)
    (what,) = about.paragraphs()
    assert what[-1] in ".:" and len(what) > 10
    for text in (about.why, about.without, about.see):
        assert 6 < len(text) < 220 and text.endswith(".")
    for text in (about.why, about.without):
        assert text[0].islower() or text[0] in "`/" or text.split()[0].isupper() or text.startswith(("Ctrl", "HOME")), (
            text
        )
    assert all(_PAGE.search(part) or part.startswith(" ") for part in about.see.split(";")), about.see


def test_from_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """As an installed program reads them, whose classes have none."""
    from gosudacon.stages.pivot_root import PivotRoot

    said = docstrings.about(PivotRoot).to_json()
    monkeypatch.setattr(PivotRoot, "__doc__", None)
    monkeypatch.setattr(docstrings, "_known", {})
    assert docstrings.about(PivotRoot).to_json() == said


def test_the_archive_has_none() -> None:
    """The hot path does not pay for them."""
    path = Path(gosudacon.stages.__path__[0]) / "pivot_root.py"
    code = archive._compile(ast.parse(path.read_bytes()), str(path))
    assert b"Without it" not in marshal.dumps(code)


class Foreign(Step):
    """Paint it
    black.

    With a brush.
    """

    phase = PREPARE

    def run(self, context: Context) -> None:
        """Nothing."""


class Inherited(Foreign):
    phase = PREPARE


Silent: Any = type("Silent", (Step,), {"__module__": "nowhere"})


def test_of_another_author() -> None:
    """Their docstring as it is; of one without, that of the class it is made of, or nothing."""
    assert docstrings.about(Foreign).paragraphs() == ["Paint it black.", "With a brush."]
    assert docstrings.about(Inherited).paragraphs() == ["Paint it black.", "With a brush."]
    assert docstrings.about(Silent).to_json() == {"what": "", "why": "", "without": "", "see": ""}
    assert docstrings.about(PlanWarning).why == ""
