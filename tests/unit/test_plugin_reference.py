"""docs/plugin-reference.md has all of the interface, and explains every name. test_properties_docs compares it."""

from __future__ import annotations

import inspect

import pytest

from gosudacon import api, hookspecs
from gosudacon.testing import plugin
from tests.support.runtime import CHECKOUT
from tools import reference

TEXT = (CHECKOUT / "docs/plugin-reference.md").read_text("utf-8")
CLASSES = [*(getattr(api, name) for name in api.__all__), *reference.FIXTURES]
CLASSES = [each for each in CLASSES if inspect.isclass(each)]


def test_every_name_is_there() -> None:
    headings = {line.removeprefix("### ") for line in TEXT.splitlines() if line.startswith("### ")}
    names = {name for name in api.__all__ if not name.isupper()}
    names |= {
        name for module in (hookspecs, plugin) for name in vars(module) if name.startswith(("gosudacon_", "oci_"))
    }
    assert names <= headings
    for name in {*api.__all__} - names:
        assert f"| `{name}` |" in TEXT


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_field_is_explained(kind: type) -> None:
    """By a comment behind it, or by its name in the docstring of the class."""
    doc = kind.__doc__ or ""
    found = [*reference.fields(kind)]
    assert [field.name for field in found if not field.type] == []
    if kind is not api.Options:  # named as options of the command line are
        assert [field.name for field in found if not field.words and f"``{field.name}``" not in doc] == []


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_method_is_explained(kind: type) -> None:
    methods = [value for name, value in vars(kind).items() if inspect.isfunction(value) and not name.startswith("_")]
    assert [each.__name__ for each in methods if not inspect.getdoc(each)] == []


def test_arguments_and_results_have_types() -> None:
    functions = [getattr(api, name) for name in api.__all__ if inspect.isfunction(getattr(api, name))]
    for function in functions:
        signature = inspect.signature(function)
        found = [signature.return_annotation, *(each.annotation for each in signature.parameters.values())]
        assert inspect.Parameter.empty not in found, function.__name__
