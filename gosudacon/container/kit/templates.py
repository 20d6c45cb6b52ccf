"""The texts of a new plugin; ``@NAME@`` and its like are replaced by `skeleton`."""

from __future__ import annotations

PYPROJECT = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "gosudacon-@NAME@"
version = "0.1"
description = "What it does to every container, in one line"
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["gosudacon>=@VERSION@"]

[project.optional-dependencies]
test = ["pytest>=8"]

# The name of the plugin, as the administrator enables it, and its module.
[project.entry-points.gosudacon]
@NAME@ = "@MODULE@"

[tool.setuptools.packages.find]
where = ["src"]

[tool.setuptools.package-data]
@MODULE@ = ["py.typed"]

[tool.pytest.ini_options]
testpaths = ["tests"]
"""

MODULE = '''\
"""The gosudacon plugin @NAME@: a variable for every process, a file in the container, a note on the host.

Replace what it does by what you need; keep what you need of its three ways to do it.
"""

from __future__ import annotations

import os

from gosudacon.api import (
    MOUNT,
    PREPARE,
    Context,
    Edit,
    Host,
    SettingsError,
    Spec,
    Stage,
    Step,
    hookimpl,
    mkdir_in_root,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gosudacon.api import Plan

OFF = "org.example.@NAME@.off"  # the annotation of containers that do not want it
_NEW = ".@NAME@.new"


@hookimpl
def gosudacon_edit_spec(spec: Spec, settings: Mapping[str, object]) -> Edit | None:
    """An edit: the variable @VARIABLE@, whose value is the setting ``value`` of [plugin.@NAME@]. Reads nothing."""
    if (spec.config.get("annotations") or {}).get(OFF) == "true":
        return None
    return Edit().add_env("@VARIABLE@", str(settings.get("value", "hello")))


class WriteFile(Step):
    """Write /run/@NAME@ in the container, whatever the image has at that place."""

    phase = MOUNT
    text: str

    def describe(self) -> str:
        return "write /run/@NAME@"

    def run(self, context: Context) -> None:
        directory = mkdir_in_root(context.root, "/run")
        try:
            _remove(_NEW, directory)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(_NEW, flags, 0o644, dir_fd=directory)
            try:
                os.write(fd, self.text.encode())
            finally:
                os.close(fd)
            os.rename(_NEW, "@NAME@", src_dir_fd=directory, dst_dir_fd=directory)
        finally:
            os.close(directory)

    def expect(self, spec: Spec, host: Host) -> str:
        return "the container may change its file"


class Note(Step):
    """A file named like the container in a directory of the host, for as long as the container exists."""

    phase = PREPARE
    lasts = True
    recorded_as = ("@NAME@.note", 1)
    directory: str
    id: str

    def describe(self) -> str:
        return f"note {self.id} in {self.directory}"

    def run(self, context: Context) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        os.close(os.open(f"{self.directory}/{self.id}", flags, 0o644))

    def undo(self, context: Context) -> None:
        _remove(f"{self.directory}/{self.id}")

    def expect(self, spec: Spec, host: Host) -> str:
        return "it is a file of the host, which confines nothing"


class @CLASS@(Stage):
    """Settings in [stage.@NAME@]: ``text`` of the file; ``directory`` for notes (without it there are none)."""

    name = "@NAME@"
    after = ("rootfs-mount",)

    def plan(self, spec: Spec, host: Host) -> Iterator[Step]:
        text, directory = self.settings.get("text", "made by @NAME@\\\\n"), self.settings.get("directory", "")
        if not isinstance(text, str) or not isinstance(directory, str):
            raise SettingsError("[stage.@NAME@] takes strings: text, directory")
        if directory:
            yield Note(directory=directory, id=spec.id)
        yield WriteFile(text=text)


@hookimpl
def gosudacon_stages() -> list[Stage]:
    """Contribute the stage."""
    return [@CLASS@()]


@hookimpl
def gosudacon_amend_plan(plan: Plan, spec: Spec) -> None:
    """An amendment: no file where the container does not want it."""
    if (spec.config.get("annotations") or {}).get(OFF) == "true":
        plan.steps = [step for step in plan.steps if not isinstance(step, WriteFile)]


def _remove(path: str, directory: int | None = None) -> None:
    try:
        os.unlink(path, dir_fd=directory)
    except FileNotFoundError:
        return
'''.replace("\\\\n", "\\n")

CONFTEST = '''\
"""The package is tested from its source: it need not be installed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
'''

TESTS = '''\
"""What the plugin plans, what its steps do, and what they leave: with the fixtures of gosudacon.testing."""

import os

import @MODULE@ as plugin
import pytest


def test_the_variable_and_the_file(oci_plan):
    plan = oci_plan(plugin, settings={"value": "x"})
    assert plan.edits is not None
    assert [step.describe() for step in plan.of_stage("@NAME@")] == ["write /run/@NAME@"]


def test_who_does_not_want_it(oci_plan):
    plan = oci_plan(plugin, {"annotations": {plugin.OFF: "true"}})
    assert plan.edits is None
    assert plan.of_stage("@NAME@") == []


def test_a_link_in_the_image_leads_nowhere(oci_root):
    oci_root.link("/run")  # the fixture looks whether anything outside of the root was changed
    plugin.WriteFile(text="x").run(oci_root.context())


def test_the_note_goes_whatever_happens(oci_lasting, oci_root, tmp_path):
    notes = tmp_path / "notes"
    notes.mkdir()
    oci_lasting(plugin.Note(directory=str(notes), id="web"), oci_root.context(), notes)


def test_a_container(oci_container):
    containers = oci_container(plugin, {"value": "x"}, {"stage": {"@NAME@": {"text": "here"}}})
    assert containers.output(["sh", "-c", "cat /run/@NAME@; echo $@VARIABLE@"]) == "herex\\\\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_it_fails_at_every_step_and_leaves_nothing(oci_faults, tmp_path):
    notes = tmp_path / "notes"
    notes.mkdir()
    oci_faults(plugin, config={"stage": {"@NAME@": {"directory": str(notes)}}}, watch=[notes], every=False)
'''.replace("\\\\n", "\\n")

README = """\
# gosudacon-@NAME@

A plugin for [gosudacon](https://pypi.org/project/gosudacon/): say here what it does to every container.

    pip install .
    gosudacon plugin enable @NAME@

The second command adds it to `/etc/gosudacon/config.toml`, where its settings are, too:

```toml
plugins = ["@NAME@"]

[plugin.@NAME@]
value = "hello"               # of the variable @VARIABLE@

[stage.@NAME@]
text = "made by @NAME@\\\\n"      # of the file /run/@NAME@
directory = "/run/@NAME@"       # where a note is for each container; it must exist
```

`gosudacon explain BUNDLE` shows what it does to a bundle.

## Work on it

    pip install '.[test]'                # again after each change: the program looks in site-packages alone
    python -m pytest                     # the source; as root the tests make containers, too
    gosudacon plugin check @NAME@   # what is installed: planning that reads, fields, undo, imports, audit
""".replace("\\\\n", "\\n")

WORKFLOW = """\
name: test
on: [push, pull_request]

jobs:
  test:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with:
          python-version: "3.13"
      - run: python -m venv .venv
      - run: .venv/bin/pip install '.[test]'
      - run: .venv/bin/python -m pytest
      - run: sudo .venv/bin/python -m pytest # real containers
"""

IGNORED = """\
__pycache__/
*.egg-info/
/build/
/dist/
/.venv/
"""
