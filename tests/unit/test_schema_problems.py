"""What is wrong with a configuration: every problem at once, its place in the file, and readable words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gosudacon.base import jsonio
from gosudacon.schema import descriptions, problems
from gosudacon.schema.positions import Positions

CORPUS = sorted((Path(__file__).parent / "schema_corpus").iterdir())

BAD = rb"""{
  "ociVersion": 1,
  "process": {
    "args": [],
    "cwd": "tmp",
    "env": ["A=1", "B", "\u0000=2"],
    "user": {"uid": 4294967295, "gid": null},
    "capabilities": {"bounding": ["CAP_KILL", 5]},
    "rlimits": [
      {"type": "RLIMIT_NOFILE", "soft": 1, "hard": -2},
      {"type": "RLIMIT_NOFILE", "soft": 1.0}
    ],
    "terminal": "true",
    "oomScoreAdj": true
  },
  "mounts": [{"type": "proc"}, 5, {"destination": "", "options": "ro", "uidMappings": [{"size": 1}]}],
  "annotations": {"": "x", "a": 5, "\ud800": "b"},
  "linux": {
    "namespaces": [{"type": "pid"}, {"type": "net"}, {"type": "pid", "path": "x"}],
    "resources": {
      "memory": {"limit": "5"},
      "rdma": {"a": {}, "b/c": {"hcaObjects": 1}},
      "blockIO": {"weight": 5, "weightDevice": [{"major": 8, "minor": 0}]},
      "unified": {"../x": "1", "y": "\ud800"},
      "hugepageLimits": [{"pageSize": "2mb", "limit": 1}]
    },
    "sysctl": {"net/../x": "1", "net.core.somaxconn": 1},
    "devices": [{"type": "c", "path": "/dev/x", "major": 1}, {"type": "p", "path": "/dev/y"}],
    "seccomp": {
      "defaultAction": "",
      "listenerMetadata": "x",
      "syscalls": [{"names": [], "action": "SCMP_ACT_ALLOW", "errnoRet": 5}]
    },
    "rootfsPropagation": "none",
    "netDevices": {"eth:0": {"name": "a b"}},
    "intelRdt": {"closID": "..", "memBwSchema": "L3:1"},
    "uidMappings": [{"containerID": 0, "hostID": 0, "size": 0}]
  }
}
"""

UINT64 = "an integer from 0 to 18446744073709551615"
ID = "an integer from 0 to 4294967294"
CLEAN = "without NUL characters and lone surrogates"
NAME = "a name without slashes and blanks, at most 255 bytes long, not . or .."
INTERFACE = "a network device name: 1 to 15 bytes without slashes, colons and blanks, not . or .."
PROPAGATIONS = '"", private, rprivate, slave, rslave, shared, rshared, unbindable, runbindable'

EXPECTED = [
    ("root", 1, 1, "nothing", "an object"),
    ("ociVersion", 2, 17, "1", "a string"),
    ("process.args", 4, 13, "[]", "an array of strings that is not empty"),
    ("process.cwd", 5, 12, '"tmp"', "an absolute path"),
    ("process.env[1]", 6, 20, '"B"', "KEY=VALUE"),
    ("process.env[2]", 6, 25, r'"\u0000=2"', f"KEY=VALUE, {CLEAN}"),
    ("process.user.uid", 7, 21, "4294967295", ID),
    ("process.capabilities.bounding[1]", 8, 47, "5", "a string"),
    ("process.rlimits[0].hard", 10, 52, "-2", UINT64),
    ("process.rlimits[1].type", 11, 16, '"RLIMIT_NOFILE"', "a type that no entry before it has"),
    ("process.rlimits[1].soft", 11, 41, "1.0", UINT64),
    ("process.terminal", 13, 17, '"true"', "true or false"),
    ("process.oomScoreAdj", 14, 20, "true", "an integer from -1000 to 1000"),
    ("mounts[0].destination", 16, 14, "nothing", "a string that is not empty"),
    ("mounts[1]", 16, 32, "5", "an object"),
    ("mounts[2].gidMappings", 16, 35, "nothing", "an array of at most 340 objects"),
    ("mounts[2].destination", 16, 51, '""', "a string that is not empty"),
    ("mounts[2].options", 16, 66, '"ro"', "an array of strings"),
    ("annotations.a", 17, 33, "5", "a string"),
    (r'annotations["\ud800"]', 17, 36, r'"\ud800"', f"a string, {CLEAN} as the name"),
    (
        "linux.namespaces[1].type",
        19,
        46,
        '"net"',
        "one of pid, network, mount, ipc, uts, user, cgroup, time",
    ),
    ("linux.namespaces[2].type", 19, 63, '"pid"', "a type that no entry before it has"),
    ("linux.namespaces[2].path", 19, 78, '"x"', "an absolute path"),
    ("linux.resources.memory.limit", 21, 27, '"5"', "an integer from -1 to 9223372036854775807"),
    ("linux.resources.rdma.a", 22, 21, "{}", "an object with hcaHandles or hcaObjects"),
    ('linux.resources.rdma["b/c"]', 22, 25, '"b/c"', f"{NAME} as the name"),
    ("linux.resources.blockIO.weight", 23, 29, "5", "0 or an integer from 10 to 1000"),
    (
        "linux.resources.blockIO.weightDevice[0]",
        23,
        49,
        '{"major":8,"minor":0}',
        "an object with weight or leafWeight",
    ),
    ('linux.resources.unified["../x"]', 24, 19, '"../x"', f"{NAME} as the name"),
    ("linux.resources.unified.y", 24, 37, r'"\ud800"', f"a string, {CLEAN}"),
    (
        "linux.resources.hugepageLimits[0].pageSize",
        25,
        39,
        '"2mb"',
        "a page size such as 64KB, 2MB or 1GB",
    ),
    (
        'linux.sysctl["net/../x"]',
        27,
        16,
        '"net/../x"',
        "a kernel parameter such as net.ipv4.ip_forward as the name",
    ),
    ('linux.sysctl["net.core.somaxconn"]', 27, 55, "1", "a string"),
    ("linux.seccomp.listenerPath", 29, 16, "nothing", "an absolute path"),
    (
        "linux.seccomp.syscalls",
        32,
        19,
        '[{"names":[],"action":"SCMP_ACT_ALLOW","errnoRet":5}]',
        "no rules while defaultAction is empty",
    ),
    ("linux.rootfsPropagation", 34, 26, '"none"', f"one of {PROPAGATIONS}"),
    ('linux.netDevices["eth:0"]', 35, 20, '"eth:0"', f"{INTERFACE} as the name"),
    ('linux.netDevices["eth:0"].name', 35, 38, '"a b"', INTERFACE),
    ("linux.intelRdt.closID", 36, 28, '".."', "/ or a name without slashes and blanks, not . or .."),
    ("linux.intelRdt.memBwSchema", 36, 49, '"L3:1"', "a string without line feeds that begins with MB:"),
    ("linux.uidMappings[0].size", 37, 61, "0", "an integer from 1 to 4294967295"),
]


def plain(found: list[problems.Problem]) -> list[tuple[str, int, int, str, str]]:
    return [(each.where, each.line, each.column, each.found, each.allowed) for each in found]


def test_all_problems_in_order() -> None:
    """Every problem at once in the order of the text."""
    assert plain(problems.problems_of_text(BAD)) == EXPECTED


def test_without_the_text_there_are_no_places() -> None:
    found = problems.problems(jsonio.loads(BAD))
    assert sorted(each.where for each in found) == sorted(where for where, *_ in EXPECTED)
    assert {(each.line, each.column) for each in found} == {(0, 0)}


def test_as_a_line_of_text() -> None:
    first, second = problems.problems({"ociVersion": 5}, b'{\n "ociVersion": 5}')
    assert str(first) == "line 1, column 1: root: found nothing, allowed: an object"
    assert str(second) == "line 2, column 16: ociVersion: found 5, allowed: a string"
    assert str(problems.problems([])[0]) == "found [], allowed: an object"


@pytest.mark.parametrize(
    ("text", "line", "column", "found"),
    [
        (b"", 1, 1, "broken JSON (expecting a value)"),
        (b'{"a": 1,\n "b" 2}', 2, 6, "broken JSON (expecting ':' delimiter)"),
        (b'{"a":\n\n  NaN}', 3, 3, "broken JSON (NaN is not a JSON number)"),
        (b"\xef\xbb\xbf{}", 1, 1, "broken JSON (a byte order mark instead of a value)"),
    ],
)
def test_broken_json_is_one_problem(text: bytes, line: int, column: int, found: str) -> None:
    assert plain(problems.problems_of_text(text)) == [("", line, column, found, "one JSON value in UTF-8")]


@pytest.mark.parametrize("text", [b"null", b" []", b'"x"', b"1"])
def test_what_is_no_object(text: bytes) -> None:
    (problem,) = problems.problems_of_text(text)
    assert (problem.where, problem.found, problem.allowed) == ("", text.decode().strip(), "an object")


def test_duplicate_names() -> None:
    """The last of duplicate names is the one pointed at."""
    text = b'{"ociVersion": "1", "root": {"path": 1},\n "root": {"path": "a", "path": 2}}'
    assert plain(problems.problems_of_text(text)) == [("root.path", 2, 32, "2", "a string that is not empty")]


def test_columns_count_characters_and_lines_line_feeds() -> None:
    text = '{"ociVersion": "\u00e9\U0001f600", "hostname": 1,\r\n\t"root": 2}'.encode()
    assert plain(problems.problems_of_text(text)) == [
        ("hostname", 1, 34, "1", "a string of at most 64 bytes"),
        ("root", 2, 10, "2", "an object"),
    ]


def test_a_flood_is_limited() -> None:
    text = b'{"ociVersion":"1","root":{"path":"r"},"process":{"cwd":"/","args":[' + b"1," * 20_000 + b"1]}}"
    found = problems.problems_of_text(text)
    assert len(found) == problems.LIMIT
    assert found[-1].where == "process.args[999]"


def test_long_values_are_shortened() -> None:
    (problem,) = problems.problems({"ociVersion": "1", "root": {"path": "r"}, "mounts": "x" * 1000})
    assert len(problem.found) == 60
    assert problem.found.endswith("x...")
    assert descriptions.found([{"a": "b" * 100}]) == '[{"a":"' + "b" * 50 + "..."
    assert len(descriptions.where(("a" * 1000 + " ", 3))) < 70


def test_values_that_json_does_not_know() -> None:
    (problem,) = problems.problems({"ociVersion": "1", "root": {"path": b"r"}})
    assert problem.found == "a bytes"


def test_conditions_in_the_state() -> None:
    state = {"ociVersion": "1.3.0", "id": "c1", "bundle": "/b"}
    assert plain(problems.problems({**state, "status": "stopped", "pid": 0}, kind="state")) == []
    wanted = "a process id while the container is created, running or paused"
    assert plain(problems.problems({**state, "status": "running", "pid": 0}, kind="state")) == [
        ("pid", 0, 0, "0", wanted)
    ]
    assert plain(problems.problems({**state, "status": "running"}, kind="state")) == [
        ("pid", 0, 0, "nothing", "an integer from 0 to 4194304")
    ]


def places(value: Any, here: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    yield here, value
    if isinstance(value, dict | list):
        for step, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(part, (*here, step))


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
@pytest.mark.parametrize("layout", ["as it is", "indented", "narrow", "wide"])
def test_every_value_is_found_where_it_stands(path: Path, layout: str) -> None:
    text = path.read_text("utf-8")
    if layout == "indented":
        text = json.dumps(json.loads(text), indent=4, ensure_ascii=False)
    elif layout == "narrow":
        text = json.dumps(json.loads(text), separators=(",", ":"))
    elif layout == "wide":
        text = re.sub(
            r"(?<=[\[{]) *(?=[\]}])",
            "\r\n\t ",
            json.dumps(json.loads(text), indent=1, separators=(" ,", " : ")),
        )
    positions = Positions(text)
    lines = text.split("\n")
    for where, value in places(json.loads(text)):
        offset = positions.value(where)
        assert jsonio.scan_value(text, offset)[0] == value
        line, column = positions.line_column(offset)
        assert sum(map(len, lines[: line - 1])) + line - 1 + column - 1 == offset
        if where and isinstance(where[-1], str):
            name = positions.name(where)
            assert jsonio.scan_string(text, name + 1)[0] == where[-1]
            assert name < offset


def test_missing_things() -> None:
    """Missing things are looked for as far as possible."""
    text = '{"a": [1, {"b": 2}], "c": {}}'
    positions = Positions(text)
    assert positions.value(("a", 1, "x", "y", 3)) == text.index('{"b"')
    assert positions.value(("a", 7)) == text.index("[")
    assert positions.value(("a", 1, "b", "z")) == text.index("2")
    assert positions.name(("c", "d")) == text.index("{}")
    assert positions.name(()) == 0
