"""The formats of state, list and --version."""

from __future__ import annotations

import json

import pytest

import gosudacon
from gosudacon.cli import output


def record(id: str = "web", **changes: object) -> dict[str, object]:
    base = {
        "ociVersion": "1.3.0",
        "id": id,
        "pid": 1234,
        "status": "running",
        "bundle": "/srv/web",
        "rootfs": "/srv/web/rootfs",
        "created": "2026-11-23T17:03:23.000000001Z",
        "owner": "",
    }
    return base | changes


def test_state() -> None:
    assert output.state(record()) == (
        "{\n"
        '  "ociVersion": "1.3.0",\n'
        '  "id": "web",\n'
        '  "pid": 1234,\n'
        '  "status": "running",\n'
        '  "bundle": "/srv/web",\n'
        '  "rootfs": "/srv/web/rootfs",\n'
        '  "created": "2026-11-23T17:03:23.000000001Z",\n'
        '  "owner": ""\n'
        "}"
    )


def test_state_with_annotations() -> None:
    value = record(annotations={"a": "é\udcff"})
    text = output.state(value)
    assert text.isascii()
    assert json.loads(text) == value
    assert '\n  "annotations": {\n    "a": ' in text


def test_empty_list() -> None:
    assert output.listing([]) == "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n"
    assert output.listing([], "json") == "null\n"
    assert output.listing([], quiet=True) == ""


def test_addresses() -> None:
    """Only where a container has some is there a column for them."""
    rows = [record(), record("db", addresses={"eth0": ["10.0.0.2/16", "fd00::2/64"], "eth1": ["10.1.0.2/16"]})]
    first, second, third = output.listing(rows).splitlines()
    assert first.endswith("OWNER       ADDRESSES")
    assert second.endswith("   -")
    assert third.endswith("   10.0.0.2,fd00::2,10.1.0.2")
    assert json.loads(output.listing(rows, "json"))[1]["addresses"]["eth1"] == ["10.1.0.2/16"]


def test_table() -> None:
    rows = [record(owner="root"), record("a-longer-name", pid=0, status="stopped", owner="root")]
    assert output.listing(rows) == (
        "ID              PID         STATUS      BUNDLE      CREATED                          OWNER\n"
        "web             1234        running     /srv/web    2026-11-23T17:03:23.000000001Z   root\n"
        "a-longer-name   0           stopped     /srv/web    2026-11-23T17:03:23.000000001Z   root\n"
    )


@pytest.mark.parametrize(("length", "width"), [(0, 12), (8, 12), (9, 12), (10, 13), (30, 33)])
def test_width_of_columns(length: int, width: int) -> None:
    assert output.table([["x" * length, "end"]]) == "x" * length + " " * (width - length) + "end\n"


def test_json_list() -> None:
    text = output.listing([record(), record("b")], "json")
    assert text.count("\n") == 1 and text.endswith("]\n")
    assert [item["id"] for item in json.loads(text)] == ["web", "b"]
    assert text.startswith('[{"ociVersion":"1.3.0","id":"web","pid":1234,"status":"running",')


def test_quiet_wins_over_the_format() -> None:
    assert output.listing([record(), record("b")], "json", quiet=True) == "web\nb\n"


def test_names_with_control_characters() -> None:
    """Names do not steer the terminal or break the table."""
    text = output.listing([record(bundle="/x\n\x1b[2J\udcff")])
    assert text.count("\n") == 2
    assert r"/x\n\x1b[2J\xff" in text


def docker(text: str) -> tuple[str, str, str]:
    """Name, version and commit as dockerd takes them from --version."""
    name = version = commit = ""
    for line in text.strip().split("\n"):
        if "version" in line:
            parts = line.split("version")
            name, version = parts[0].strip(), parts[-1].strip()
        elif line.startswith("commit:"):
            commit = line.removeprefix("commit:").strip()
    return name, version, commit


def test_version() -> None:
    version = gosudacon.__version__
    lines = output.version().splitlines()
    assert lines[:3] == [f"gosudacon version {version}", f"commit: {version}", "spec: 1.3.0"]
    assert docker(output.version()) == ("gosudacon", version, version)
    assert all(line.split(": ")[0] in ("libseccomp",) for line in lines[3:])


def test_write(capfd: pytest.CaptureFixture[str]) -> None:
    output.write("é\ud800\n" + "x" * 10)
    assert capfd.readouterr().out == "é\\ud800\n" + "x" * 10
