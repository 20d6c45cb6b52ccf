"""gosudacon.base.jsonio: strict JSON on the C scanner, and the same through the ordinary module."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gosudacon.base import jsonio

PACKAGE = Path(jsonio.__file__).parents[2]

BROKEN = {
    b"": ("expecting a value", 1, 1),
    b"  \n ": ("expecting a value", 2, 2),
    b"[1,\n 2,\n nul]": ("expecting a value", 3, 2),
    b'{"a" 1}': ("expecting ':' delimiter", 1, 6),
    b'{"a": 1\n "b": 2}': ("expecting ',' delimiter", 2, 2),
    b"{1: 2}": ("expecting property name enclosed in double quotes", 1, 2),
    b"{'a': 2}": ("expecting property name enclosed in double quotes", 1, 2),
    b'"abc': ("unterminated string", 1, 1),
    b'"a\nb"': ("invalid control character", 1, 3),
    b'"\x00"': ("invalid control character", 1, 2),
    b'["\\u12g4"]': ("invalid \\uXXXX escape", 1, 4),
    b'"\\x41"': ("invalid \\escape", 1, 2),
    b"{} {}": ("unexpected text after the value", 1, 4),
    b"{}\n\n  x": ("unexpected text after the value", 3, 3),
    b"{}\x00": ("unexpected text after the value", 1, 3),
    b"0123": ("unexpected text after the value", 1, 2),
    b"+1": ("expecting a value", 1, 1),
    b"// c\n{}": ("expecting a value", 1, 1),
    b"[NaN]": ("NaN is not a JSON number", 1, 2),
    b'["NaN", -Infinity]': ("-Infinity is not a JSON number", 1, 9),
    b'{"a": 1,\n "b": Infinity}': ("Infinity is not a JSON number", 2, 7),
    b'["1e999", 1e999]': ("a number is too large", 1, 11),
    b"[1, " + b"7" * 4301 + b"]": ("a number has too many digits", 1, 5),
    b"\xef\xbb\xbf{}": ("a byte order mark instead of a value", 1, 1),
    b"\xff\xfe{\x00}\x00": ("not UTF-8", 1, 1),
    b'{"a":\n"\xc3("}': ("not UTF-8", 2, 2),
    b'"\xed\xa0\x80"': ("not UTF-8", 1, 2),
    "[\n\u00e9\u00e9, 1]".encode(): ("expecting a value", 2, 1),
    '[\n"\u00e9\u00e9" 1]'.encode(): ("expecting ',' delimiter", 2, 6),
}


def ordinary() -> Any:
    """A second copy of the module that had to do without `_json`."""
    spec = importlib.util.spec_from_file_location("jsonio_ordinary", jsonio.__file__)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    hidden = sys.modules.get("_json")
    sys.modules["_json"] = None  # type: ignore[assignment]
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules["_json"]
        if hidden is not None:
            sys.modules["_json"] = hidden
    return module


GEARS = {"c": jsonio, "ordinary": ordinary()}


@pytest.fixture(params=sorted(GEARS))
def gear(request: pytest.FixtureRequest) -> Any:
    return GEARS[request.param]


def test_the_two_gears_are_what_they_should_be() -> None:
    assert type(jsonio.scan_value).__module__ == "_json"
    assert GEARS["ordinary"]._encode.__self__.__class__ is json.JSONEncoder


@pytest.mark.parametrize("data", BROKEN, ids=lambda data: repr(data[:20]))
def test_broken_text_is_placed(gear: Any, data: bytes) -> None:
    with pytest.raises(gear.JSONError) as caught:
        gear.loads(data)
    error = caught.value
    assert (error.message, error.line, error.column) == BROKEN[data]
    assert isinstance(error, ValueError)
    assert "\n" not in str(error)


def test_a_comma_too_many(gear: Any) -> None:
    """CPython 3.13 points at the comma, its predecessors at what follows."""
    with pytest.raises(gear.JSONError) as caught:
        gear.loads(b'{"a": [1,\n]}')
    assert (caught.value.line, caught.value.column) in ((1, 9), (2, 1))


@pytest.mark.parametrize("text", [b"[", b'{"a":', b'[{"b":['], ids=["arrays", "objects", "mixed"])
def test_deep_nesting_is_an_error_with_a_place(gear: Any, text: bytes) -> None:
    with pytest.raises(gear.JSONError, match="nested too deeply at line 1"):
        gear.loads(text * 200_000)
    with pytest.raises(gear.JSONError, match="nested too deeply"):
        gear.loads(b"[" * 200_000 + b"]" * 200_000)


def test_too_long(gear: Any) -> None:
    padding = b" " * (gear.SIZE_LIMIT - 2)
    assert gear.loads(padding + b"{}") == {}
    with pytest.raises(gear.JSONError, match="16777217 bytes are too long") as caught:
        gear.loads(padding + b" {}")
    assert caught.value.line == 0


def test_values_and_their_types(gear: Any) -> None:
    value = gear.loads(b'\t{"n": null, "t": true, "i": -0, "big": 18446744073709551615, "f": 1.0, "e": 1e3}\r\n')
    assert value == {"n": None, "t": True, "i": 0, "big": 2**64 - 1, "f": 1.0, "e": 1000.0}
    assert [type(item).__name__ for item in value.values()] == [
        "NoneType",
        "bool",
        "int",
        "int",
        "float",
        "float",
    ]


def test_of_duplicate_names_the_last_wins(gear: Any) -> None:
    assert gear.loads(b'{"a": 1, "b": 2, "a": {"c": 3, "c": 4}}') == {"a": {"c": 4}, "b": 2}


def test_escapes_can_bring_nul_and_lone_surrogates(gear: Any) -> None:
    assert gear.loads(b'["\\u0000", "\\ud800", "\\ud83d\\ude00"]') == ["\0", "\ud800", "\U0001f600"]


def test_dumps_on_one_line(gear: Any) -> None:
    value: Any = {"a": [1, True, None, 0.5, []], "\u00e9": {"b\n": "\udcff\0"}, "t": (1, 2)}
    text = gear.dumps(value)
    assert text == r'{"a":[1,true,null,0.5,[]],"\u00e9":{"b\n":"\udcff\u0000"},"t":[1,2]}'
    assert gear.loads(text.encode()) == json.loads(text)


@pytest.mark.parametrize("indent", [0, 2, 4])
def test_dumps_indented_as_json_does(gear: Any, indent: int) -> None:
    value: Any = {"a": [1, [], {}, [2, {"b": None}]], "c": "d", "e": {"f": [()]}, "g": ("x",)}
    assert gear.dumps(value, indent) == json.dumps(value, indent=indent)
    assert gear.dumps([], indent) == "[]"
    assert gear.dumps("x", indent) == '"x"'


def test_dumps_refuses(gear: Any) -> None:
    loop: list[Any] = []
    bad: Any
    loop.append(loop)
    for indent in (None, 2):
        for bad in (float("nan"), float("inf"), [float("-inf")], loop):
            with pytest.raises(ValueError):
                gear.dumps(bad, indent)
        for bad in (b"x", {"a": object()}, {(1, 2): 3}, {4, 5}):
            with pytest.raises(TypeError):
                gear.dumps(bad, indent)


def test_without_nulls() -> None:
    before = {"a": None, "b": [None, {"c": None, "d": [[{"e": None}]]}], "f": {}, "g": {"h": None}, "i": 0}
    copy = json.loads(json.dumps(before))
    assert jsonio.without_nulls(before) == {"b": [None, {"d": [[{}]]}], "f": {}, "g": {}, "i": 0}
    assert before == copy
    assert jsonio.without_nulls(None) is None


def test_without_nulls_at_any_depth() -> None:
    deep: object = {"x": None}
    for _ in range(100_000):
        deep = [deep]
    deep = jsonio.without_nulls(deep)
    while isinstance(deep, list):
        deep = deep[0]
    assert deep == {}


def test_neither_json_nor_re_is_imported_for_good_text() -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from gosudacon.base import jsonio\n"
        "assert jsonio.dumps(jsonio.loads(b' [1.5, {\"a\": null}] '), 1)\n"
        "print(*sorted({'json', 'json.decoder', 're', 'enum', 'functools', 'typing'} & set(sys.modules)))\n"
    )
    command = [sys.executable, "-I", "-S", "-B", "-c", program, str(PACKAGE)]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() == ""
