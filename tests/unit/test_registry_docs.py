"""docs/plugins.md and docs/configuration.md say what is there: code, hooks, keys, attributes, examples."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gosudacon import api, hookspecs
from gosudacon.api import Context, Host, Spec, Stage, Step
from gosudacon.base.errors import Error
from gosudacon.pipeline import discovery
from gosudacon.pipeline.registry import registry
from gosudacon.pipeline.step import PHASES

ROOT = Path(__file__).parents[2]
PLUGINS = (ROOT / "docs/plugins.md").read_text()
CONFIGURATION = (ROOT / "docs/configuration.md").read_text()
EXAMPLES = re.findall(r"```toml\n(.*?)```", CONFIGURATION, re.DOTALL)
QUOTED = re.findall(r"<!-- (\S+) -->\n```\w+\n(.*?)```", PLUGINS, re.DOTALL)


def table(heading: str, text: str = PLUGINS) -> dict[str, list[str]]:
    """The rows of the first table behind a heading that has this cell in its head: first cell -> the others."""
    lines = text[text.index(f"| {heading} |") :].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2 : lines.index("")]]
    return {row[0]: row[1:] for row in rows}


def names(cells: dict[str, list[str]]) -> list[str]:
    """The names in backquotes in the first cells, without their arguments."""
    return [name.split("(")[0] for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


@pytest.mark.parametrize(("path", "code"), QUOTED, ids=[code.split("\n")[0].strip() for _, code in QUOTED])
def test_quoted_code_is_that_of_the_package(path: str, code: str) -> None:
    assert code in (ROOT / path).read_text()


def test_most_of_the_tutorial_is_quoted() -> None:
    assert len(QUOTED) >= 8


@pytest.mark.parametrize("package", ["banner", "gpu", "site_hostname"])
def test_the_tutorial_s_own_tests_pass(tmp_path: Path, package: str) -> None:
    command = [sys.executable, "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={tmp_path}/inner"]
    command.append(f"tests/plugins/{package}")
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_hook_is_described_with_its_arguments() -> None:
    described = [re.findall(r"`(.+?)`", row)[0] for row in table("hook")]
    found = [
        f"{name}({', '.join(inspect.signature(function).parameters)})"
        for name, function in vars(hookspecs).items()
        if name.startswith("gosudacon_")
    ]
    assert described == found


def test_every_attribute_is_described() -> None:
    tables = re.split(r"^### ", PLUGINS, flags=re.MULTILINE)
    part = {text.split("\n")[0]: text for text in tables}
    inner = ("spawns", "into_cgroup", "forks", "stage", "runs_on", "record")  # for the engine
    assert names(table("attribute", part["Stage"])) == [name for name in vars(Stage) if not name.startswith("_")]
    assert names(table("attribute", part["Step"])) == [
        name for name in vars(Step) if not name.startswith("_") and name not in inner
    ]
    context = [name.split(".")[0] for name in names(table("attribute", part["Context"]))]
    attributes = [*vars(Context(Spec({}, "x", "/b"), Host())), *vars(Context)]
    assert context == [name for name in attributes if not name.startswith("_")]
    for name in {*vars(Spec({}, "x", "/b")), *vars(Host())} - {"text", "assumed"}:
        assert f"`{name}`" in part["Stage"], name


def test_every_method_of_an_edit_is_described() -> None:
    def arguments(function: Callable[..., object]) -> str:
        return ", ".join([*inspect.signature(function).parameters][1:])

    described = [row.strip("`") for row in table("method")]
    methods = [(name, each) for name, each in vars(api.Edit).items() if not name.startswith("_")]
    assert described == [f"{name}({arguments(method)})" for name, method in methods]


def test_every_name_of_the_api_is_described() -> None:
    """Constants of operations are described by their values."""
    wanted = [name for name in api.__all__ if not name.isupper()]
    assert [name for name in wanted if f"`{name}" not in PLUGINS and f"### {name}\n" not in PLUGINS] == []
    for name in api.__all__:
        assert getattr(api, name) is not None


def test_every_phase_is_described_with_its_side() -> None:
    constants = {getattr(api, name): name for name in api.__all__ if name.isupper()}
    described = [(row.strip("`"), cells[0]) for row, cells in table("phase").items()]
    assert described == [(constants[phase], side) for phase, side in PHASES.items()]


def test_order_of_built_in_stages() -> None:
    """The order of built in stages is the one described."""
    described = re.search(r"The built-in stages, in order: (.*?)\.", PLUGINS, re.DOTALL)
    assert described
    assert re.findall(r"`(.+?)`", described[1]) == registry(use_snapshot=False).names()


def test_every_key_of_the_configuration_is_described() -> None:
    assert names(table("key", CONFIGURATION)) == list(discovery._KEYS)


@pytest.mark.parametrize("text", EXAMPLES, ids=range(len(EXAMPLES)))
def test_the_examples_are_accepted(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    path.chmod(0o644)
    found = registry(str(path), use_snapshot=False)
    spec = Spec({"linux": {"namespaces": [{"type": "network"}]}}, "x", "/b")
    for stage in found.stages(spec):
        if stage.name in ("network", "seccomp"):
            try:
                list(stage.plan(spec, Host()))
            except Error as error:
                pytest.fail(f"{stage.name}: {error.message}")
