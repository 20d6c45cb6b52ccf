"""Configurations that are not JSON, too much of it, or JSON that would do harm further down; sizes (CVE-2021-43784)."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.bundle import Bundle
from tests.support.runtime import Runtime, messages

Bundles = Callable[..., Bundle]

MIB = 1 << 20
# What takes the place of the whole file, as bytes.
NO_FILES = {
    "empty": b"",
    "blank": b" \n\t ",
    "nul": b"\0",
    "null": b"null",
    "number": b"1",
    "string": b'"text"',
    "array": b"[]",
    "true": b"true",
    "cut off": b'{"ociVersion": "1.0.2", "process": {',
    "two values": b"{}{}",
    "comma": b'{"a": 1,}',
    "comment": b'{"a": 1} // comment',
    "single quotes": b"{'a': 1}",
    "byte order mark": b'\xef\xbb\xbf{"ociVersion": "1.0.2"}',
    "UTF-16": '{"ociVersion": "1.0.2"}'.encode("utf-16"),
    "no UTF-8": b'{"ociVersion": "\xff"}',
    "surrogate in UTF-8": b'{"ociVersion": "\xed\xa0\x80"}',
    "control character": b'{"ociVersion": "1\n2"}',
    "deep arrays": b"[" * 200_000 + b"]" * 200_000,
    "deep objects": b'{"a":' * 200_000 + b"1" + b"}" * 200_000,
    "deep and cut off": b'{"a":[' * 200_000,
    "many digits": b'{"a": ' + b"1" * 100_000 + b"}",
    "huge exponent": b'{"a": 1e999999}',
    "NaN": b'{"a": NaN}',
    "Infinity": b'{"a": -Infinity}',
    "too large": b'{"a": "' + b"x" * (17 * MIB) + b'"}',
    "garbage": bytes(range(256)) * 100,
}
# What takes the place of one value in a good file, as JSON text.
VALUES = [
    *('"\\ud800"', '"\\udcff"', '"a\\u0000b"', "NaN", "Infinity", "-Infinity", "1e400", "1" * 5000, "-0", "0.5", "1e3"),
    *(
        "true",
        '""',
        "[]",
        "{}",
        "[[[[]]]]",
        '{"": ""}',
        '"\\u202e"',
        "[" * 500 + "]" * 500,
        "99999999999999999999",
        '"1"',
    ),
]
PLACES = [
    *("process.args", "process.args.0", "process.env", "process.cwd", "process.user", "process.user.uid", "root.path"),
    *("process.capabilities", "process.rlimits", "process.oomScoreAdj", "process.noNewPrivileges", "process.terminal"),
    *(
        "hostname",
        "mounts",
        "mounts.0",
        "mounts.0.destination",
        "mounts.0.options",
        "hooks",
        "annotations",
        "root",
        "linux",
    ),
    *("linux.namespaces", "linux.namespaces.0.type", "linux.namespaces.0.path", "linux.resources", "linux.cgroupsPath"),
    *("linux.resources.memory", "linux.resources.pids", "linux.maskedPaths", "linux.sysctl", "linux.devices"),
    *(
        "linux.seccomp",
        "linux.uidMappings",
        "linux.timeOffsets",
        "ociVersion",
        "process",
        "linux.intelRdt",
        "linux.mountLabel",
    ),
]


def test_a_file_that_is_no_configuration(runtime: Runtime, bundle: Bundle) -> None:
    for name, data in NO_FILES.items():
        bundle.config_path.write_bytes(data)
        for verb in ("run", "create"):
            result = runtime.call(verb, "--bundle", bundle.path, bundle.id, check=False)
            assert (result.returncode, result.stdout, len(messages(result.stderr))) == (1, "", 1), (name, result)
            assert "internal error" not in result.stderr and len(result.stderr) < 1000, (name, result.stderr)
        assert not (runtime.root / bundle.id).exists()


@pytest.mark.parametrize("start", range(4))
def test_any_value_anywhere(runtime: Runtime, bundle: Bundle, start: int) -> None:
    """One line and status 1, or a container that runs; never an internal error, nor anything left."""
    bundle.set("process.args", ["true"])
    good = bundle.config_path.read_text()
    for number, place in enumerate(PLACES):
        bundle.config = json.loads(good)
        text = bundle.set(place, "PLACEHOLDER").config_path.read_text()
        value = VALUES[(5 * start + number) % len(VALUES)]
        bundle.config_path.write_text(text.replace('"PLACEHOLDER"', value))
        result = runtime.run(bundle, limit=20)
        assert "internal error" not in result.stderr, (place, value, result.stderr)
        assert result.returncode in (0, 1), (place, value, result)
        assert result.returncode == 0 or (len(messages(result.stderr)) == 1 and result.stdout == ""), (
            place,
            value,
            result,
        )
        assert not (runtime.root / bundle.id).exists(), (place, value)


def test_duplicate_members(runtime: Runtime, bundle: Bundle) -> None:
    """As for every reader of the file in Go, so that no tool checks one value and runs another."""
    text = bundle.config_path.read_text()
    first, last = '"args": ["echo", "first"]', '"args": ["echo", "last"]'
    start = text.index('"args"')
    end = text.index("]", start) + 1
    bundle.config_path.write_text(f"{text[:start]}{first}, {last}{text[end:]}")
    assert runtime.output(bundle) == "last\n"


# Sizes.


def mappings(count: int, step: int = 2) -> list[dict[str, int]]:
    return [{"containerID": index, "hostID": 100_000 + step * index, "size": 1} for index in range(count)]


@pytest.mark.parametrize("count", [341, 5000])
def test_more_id_mappings_than_the_kernel_takes(runtime: Runtime, bundle: Bundle, count: int) -> None:
    bundle.map_users().set("process.args", ["cat", "/proc/self/uid_map"])
    bundle.update({"linux": {"uidMappings": mappings(count)}})
    result = runtime.run(bundle)
    assert (result.returncode, result.stdout) == (1, "")
    assert "340" in result.stderr


@pytest.mark.parametrize("count", [1, 5, 200, 300, 340])
def test_id_mappings_are_all_there_or_refused(runtime: Runtime, bundle: Bundle, count: int) -> None:
    """The kernel takes 340 lines and less than a page; a map that is cut short would be another one."""
    bundle.map_users().set("process.args", ["cat", "/proc/self/uid_map"])
    bundle.update({"linux": {"uidMappings": mappings(count)}})
    os.chmod(bundle.path, 0o755)
    result = runtime.run(bundle)
    assert result.returncode == (0 if len(lines_of(count)) < 4096 else 1), result
    if result.returncode == 0:
        found = [tuple(map(int, line.split())) for line in result.stdout.splitlines()]
        assert found == [(each["containerID"], each["hostID"], each["size"]) for each in mappings(count)]


def lines_of(count: int) -> bytes:
    return b"".join(b"%d %d %d\n" % tuple(each.values()) for each in mappings(count))


@pytest.mark.parametrize("kind", ["pid", "network", "user", "mount", "time"])
def test_a_long_namespace_path(runtime: Runtime, bundle: Bundle, kind: str) -> None:
    """66 KB, which overflowed a 16-bit length elsewhere."""
    bundle.add_namespace(kind, "/proc/1/ns/" + "x" * 66_000)
    bundle.set("process.args", ["echo", "started"])
    result = runtime.run(bundle)
    assert (result.returncode, result.stdout, len(messages(result.stderr))) == (1, "", 1)
    assert "name too long" in result.stderr
    bundle.add_namespace(kind, "/" * 3000 + "/proc/self/ns/uts")
    result = runtime.run(bundle)
    assert result.returncode == 1 and f"not a {kind} namespace" in result.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"args": ["true", "x" * (1 << 20)]}, "argument list too long"),
        ({"args": ["true", "ü" * (1 << 19)]}, "argument list too long"),
        ({"args": ["x" * (1 << 20)]}, "not found"),
        ({"args": ["/" + "日" * 100_000]}, "too long"),
        ({"env": ["PATH=/bin", "A=" + "x" * (1 << 20)]}, "argument list too long"),
        ({"env": ["PATH=" + "x" * (1 << 20)]}, "not found"),
        ({"cwd": "/" + "x" * 100_000}, "too long"),
        ({"cwd": "/" + "\\u0001" * 60_000}, "too long"),
        ({"cwd": "/" + "日" * 100_000}, "too long"),
        ({"args": ["true"] + ["x" * 10] * 200_000}, "argument list too long"),
    ],
    ids=["argument", "bytes", "program", "path", "variable", "PATH", "cwd", "control", "text", "arguments"],
)
def test_long_values(runtime: Runtime, make_bundle: Bundles, change: dict[str, Any], message: str) -> None:
    """The kernel's own error, in one line of some length."""
    bundle = make_bundle(["true"], {"process": change})
    result = runtime.run(bundle)
    assert (result.returncode, result.stdout, len(messages(result.stderr))) == (1, "", 1)
    assert message in result.stderr[-2000:], result.stderr[-300:]


def test_as_much_as_the_kernel_takes(runtime: Runtime, bundle: Bundle) -> None:
    """A megabyte of arguments and one of variables, each below 128 KiB."""
    arguments = ["x" * 100_000] * 9
    bundle.set("process.args", ["sh", "-c", 'echo $# "${#V0}" "${#V7}"', *arguments])
    bundle.set("process.env", ["PATH=/bin", *(f"V{number}={'y' * 100_000}" for number in range(8))])
    bundle.set("process.rlimits", [{"type": "RLIMIT_STACK", "soft": 64 * MIB, "hard": 64 * MIB}])
    assert runtime.output(bundle) == "8 100000 100000\n"


def test_many_of_everything(runtime: Runtime, bundle: Bundle) -> None:
    """Of a configuration with thousands of entries every one counts."""
    bundle.set("process.env", [f"V{number}={number}" for number in range(5000)] + ["PATH=/bin"])
    bundle.set("annotations", {f"org.example.{number}": "x" * 100 for number in range(5000)})
    bundle.set("linux.maskedPaths", [f"/nothing/{number}" for number in range(1000)] + ["/etc/passwd"])
    bundle.set("process.args", ["sh", "-c", "echo $V0 $V4999; cat /etc/passwd; env | wc -l"])
    lines = runtime.output(bundle).split()
    assert lines[:2] == ["0", "4999"] and int(lines[2]) >= 5001


def test_state_of_many_annotations(runtime: Runtime, bundle: Bundle) -> None:
    annotations = {f"org.example.{number}": "ü" * 100 for number in range(2000)}
    bundle.set("annotations", annotations)
    runtime.create(bundle)
    assert runtime.state(bundle)["annotations"] == annotations
    assert json.loads(runtime.call("list", "--format", "json").stdout)[0]["id"] == bundle.id
