"""The schema compiler, the formats it copies, and what the hot path may import."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import gosudacon
from gosudacon.schema import compiler, descriptions, formats

PACKAGE = Path(gosudacon.__file__).parent

FITS = {
    "text": ["", "a", "\u00e9\U0001f600", "a\nb\t\x01"],
    "line": ["", "L3:0=f;1=f"],
    "absolute-path": ["/", "/a/b", "//", "/../x", "/\u00e9"],
    "absolute-path-or-none": ["", "/a/b"],
    "interface-name-or-none": ["", "eth0"],
    "env-entry": ["A=", "A=b=c", " a = b", "\u00e9=\n"],
    "component": ["a", "..a", "a..", "memory.max", "hugetlb.2MB.max", "\u00e9", "x" * 255, "a:b", "-"],
    "clos-id": ["/", "gold", "a.b"],
    "interface-name": ["eth0", "eth0.100", "a" * 15, "\u00e9\u00e9", "a@b"],
    "hostname": ["", "a", "h" * 64, "\u00e9" * 32, "not a domain name"],
    "cpu-list": ["", "0", "0-3,7", "0-1023:2/4", "0, 2", "1-"],
    "hugepage-size": ["64KB", "2MB", "1GB", "512MB", "16GB"],
    "mb-schema": ["MB:", "MB:0=20;1=70"],
    "sysctl-key": [
        "kernel.msgmax",
        "a",
        "net/ipv4/conf/eth0.1/x",
        "net.ipv4.conf.eth0/1.x",
        "fs.mqueue.msg_max",
    ],
}
DOES_NOT_FIT = {
    "text": ["\0", "a\0", "\ud800", "a\udcff", "\u00e9\0"],
    "line": ["a\n", "\n", "\0", "\ud800"],
    "absolute-path": ["", "a", "./a", " /a", "/\0", "/\ud800"],
    "absolute-path-or-none": ["a", "/\0"],
    "interface-name-or-none": ["a b", "a" * 16, ".."],
    "env-entry": ["", "A", "=", "=b", "A\0=b", "A=\0", "A=\ud800"],
    "component": [
        "",
        ".",
        "..",
        "a/b",
        "/",
        "a b",
        "a\n",
        "\t",
        "a\0",
        "x" * 256,
        "\u00e9" * 128,
        "\ud800",
        "\u00a0",
    ],
    "clos-id": ["", ".", "..", "//", "/a", "a/", "a\nb"],
    "interface-name": ["", ".", "..", "a" * 16, "\u00e9" * 8, "a:b", "a/b", "a b", "a\x7f"],
    "hostname": ["h" * 65, "\u00e9" * 33, "a\0", "\ud800"],
    "cpu-list": ["a", "0-3\n", "0x1", "\u0663", "0;1"],
    "hugepage-size": [
        "",
        "MB",
        "0MB",
        "02MB",
        "2M",
        "2mb",
        "2TB",
        "-2MB",
        "2 MB",
        "\u0662MB",
        "../2MB",
        "2MB\n",
    ],
    "mb-schema": ["", "mb:", "L3:", "MB:1\nL3:0=1", " MB:", "MB:\0"],
    "sysctl-key": [
        *("", ".", "..", "/", "//", "a.", ".a", "a..b", "a//b", "/a", "a/", "a\0b", "a\nb", "\ud800"),
        *("net/../kernel/hostname", "net.../../kernel.hostname", "kernel/shm_rmid_forced/../core_pattern"),
        *("fs.mqueue/../../kernel/core_pattern", "a.//", "a./", "a/./b"),
    ],
}


def predicate(name: str) -> Any:
    return getattr(formats, compiler.function_name(name))


@pytest.mark.parametrize("name", FITS)
def test_formats(name: str) -> None:
    assert [s for s in FITS[name] if not predicate(name)(s)] == []
    assert [s for s in DOES_NOT_FIT[name] if predicate(name)(s)] == []


def schemas_within(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        yield schema
        for part in schema.values():
            yield from schemas_within(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from schemas_within(part)


def test_every_format_is_tested_and_has_words() -> None:
    used = {s["format"] for kind in compiler.KINDS for s in schemas_within(compiler.load(kind)) if "format" in s}
    assert used == set(FITS) == set(DOES_NOT_FIT)
    for name in used:
        assert descriptions.allowed({"type": "string", "format": name})


def test_patterns_allow_what_formats_do() -> None:
    """Other tools know only the pattern: they may be more lenient than we are, but never stricter."""
    checked = set()
    for kind in compiler.KINDS:
        for schema in schemas_within(compiler.load(kind)):
            if "pattern" in schema:
                checked.add(schema["format"])
                for s in FITS[schema["format"]]:
                    if len(s) >= schema.get("minLength", 0):
                        assert re.search(schema["pattern"], s), (schema["pattern"], s)
    assert len(checked) >= 10


@pytest.mark.parametrize("path", sorted(compiler.FOLDER.glob("*.schema.json")), ids=lambda path: path.stem)
def test_files_are_json_schema(path: Path) -> None:
    """The files are JSON schema and explain every property."""
    schema = json.loads(path.read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"]


@pytest.mark.parametrize("kind", compiler.KINDS)
def test_every_property_is_described(kind: str) -> None:
    for schema in schemas_within(compiler.load(kind)):
        for name, part in schema.get("properties", {}).items():
            assert isinstance(part, dict)
            assert "allowed" in part or "enum" in part or part.get("description", "").endswith("."), name


def test_the_output_depends_on_nothing_but_the_sources(tmp_path: Path) -> None:
    compiler.build(tmp_path / "one.py")
    subprocess.run(
        [sys.executable, "-I", "-S", "-B", compiler.__file__, str(tmp_path / "two.py")],
        check=True,
        env={"PYTHONHASHSEED": "1"},
    )
    assert (tmp_path / "one.py").read_text() == (tmp_path / "two.py").read_text() == compiler.source()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.py", "two.py"]


def test_build_stands_alone(tmp_path: Path) -> None:
    """As setup.py does: the compiler loaded by its path."""
    program = (
        "import importlib.util, sys\n"
        "spec = importlib.util.spec_from_file_location('schema_compiler', sys.argv[1])\n"
        "compiler = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(compiler)\n"
        "compiler.build(sys.argv[2])\n"
        "print(sorted(name for name in sys.modules if name.startswith(('gosudacon', 'jsonschema'))))\n"
    )
    target = tmp_path / "_validator.py"
    command = [sys.executable, "-I", "-S", "-B", "-c", program, compiler.__file__, str(target)]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "[]\n"
    assert target.read_text() == compiler.source()


def copied_schemas(tmp_path: Path) -> Path:
    for path in [
        *compiler.FOLDER.glob("*.json"),
        compiler.FOLDER / "formats.py",
        compiler.FOLDER / "compiler.py",
    ]:
        shutil.copy(path, tmp_path)
    return tmp_path


def test_the_fingerprint_follows_every_source(tmp_path: Path) -> None:
    folder = copied_schemas(tmp_path)
    assert compiler.fingerprint(folder) == compiler.fingerprint()
    seen = {compiler.fingerprint(folder)}
    for path in folder.iterdir():
        path.write_text(path.read_text() + "\n")
        seen.add(compiler.fingerprint(folder))
    assert len(seen) == 1 + len(list(folder.iterdir()))


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "object", "patternProperties": {}}, "unknown keywords patternProperties"),
        ({"type": "object", "properties": {"a": {"type": "string", "pattern": "x"}}}, "without a format"),
        ({"type": "object", "properties": {"a": {"type": ["string", "null"]}}}, "needs one type"),
        ({"type": "object", "properties": {"a": {}}}, "needs one type"),
        ({"type": "object", "properties": {"a": True}}, "True is not a schema"),
        (
            {"type": "object", "properties": {"a": {"type": "string", "minimum": 1}}},
            "minimum beside type string",
        ),
        ({"type": "object", "properties": {"a": {"$ref": "#/$defs/none"}}}, "leads nowhere"),
        ({"type": "object", "properties": {"a": {"$ref": "#/$defs/a", "minLength": 1}}}, "may stand beside"),
        (
            {"type": "object", "properties": {}, "additionalProperties": {"type": "string"}},
            "beside properties",
        ),
        ({"type": "object", "if": {"minItems": 1}, "then": {}}, "in a condition"),
        (
            {"type": "object", "anyOf": [{"properties": {"a": {"type": "object"}}}]},
            "type object in a condition",
        ),
        (
            {"type": "object", "properties": {"a": {"type": "integer", "anyOf": [{"format": "x"}]}}},
            "anyOf of integers",
        ),
        ({"type": "array", "items": {"type": "object"}, "uniqueBy": "a"}, "uniqueBy a"),
    ],
)
def test_what_is_not_understood_is_refused(tmp_path: Path, schema: dict[str, Any], message: str) -> None:
    folder = copied_schemas(tmp_path)
    (folder / "state.schema.json").write_text(json.dumps(schema))
    with pytest.raises(compiler.SchemaError, match=re.escape(message)):
        compiler.build(tmp_path / "_validator.py", folder)
    assert not (tmp_path / "_validator.py").exists()


FORBIDDEN = {
    *("argparse", "collections", "contextlib", "ctypes", "dataclasses", "enum", "functools", "inspect"),
    *("importlib.metadata", "json", "json.decoder", "jsonschema", "logging", "pathlib", "pluggy", "pyroute2"),
    *("re", "rich", "socket", "struct", "subprocess", "typing"),
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the few files the verdict needs, without a compiled validator."""
    package = tmp_path / "gosudacon"
    ignore = shutil.ignore_patterns("__pycache__", "_validator.py")
    shutil.copytree(PACKAGE / "schema", package / "schema", ignore=ignore)
    (package / "base").mkdir()
    for name in ("__init__.py", "base/__init__.py", "base/jsonio.py"):
        shutil.copy(PACKAGE / name, package / name)
    return tmp_path


def imports_of(tree: Path, corpus: str, *more_path: str) -> tuple[str, set[str]]:
    """The verdict on a file of the corpus in a fresh interpreter, and the modules this needed."""
    program = (
        "import sys; sys.path[:0] = sys.argv[2:]\n"
        "from gosudacon.base import jsonio\n"
        "from gosudacon.schema import verdict\n"
        "with open(sys.argv[1], 'rb') as file: config = jsonio.loads(file.read())\n"
        "print(verdict.accepts(config), verdict.accepts([]), *sys.modules)\n"
    )
    data = str(Path(__file__).parent / "schema_corpus" / corpus)
    command = [sys.executable, "-I", "-S", "-B", "-c", program, data, str(tree), *more_path]
    first, second, *modules = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return f"{first} {second}", set(modules)


def test_the_fast_gear_imports_nothing_to_speak_of(tree: Path) -> None:
    compiler.build(tree / "gosudacon/schema/_validator.py")
    answer, modules = imports_of(tree, "config-docker.json")
    assert answer == "True False"
    assert modules & FORBIDDEN == set()
    assert {name for name in modules if name.startswith(("gosudacon", "_json"))} == {
        "gosudacon",
        "gosudacon.base",
        "gosudacon.base.jsonio",
        "gosudacon.schema",
        "gosudacon.schema._validator",
        "gosudacon.schema.verdict",
        "_json",
    }


def test_without_the_fast_gear_the_slow_one_answers(tree: Path) -> None:
    libraries = [path for path in sys.path if path.endswith("-packages")]
    answer, modules = imports_of(tree, "config-docker.json", *libraries)
    assert answer == "True False"
    assert "gosudacon.schema.problems" in modules
