"""The two gears of the schema, compiled and jsonschema, give the same verdict on everything."""

from __future__ import annotations

import copy
import importlib.util
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gosudacon.base import jsonio
from gosudacon.schema import compiler, problems, verdict

CORPUS = {path.stem: jsonio.loads(path.read_bytes()) for path in (Path(__file__).parent / "schema_corpus").iterdir()}
HUGE = [
    2**31,
    2**32 - 2,
    2**32 - 1,
    2**32,
    2**63 - 1,
    2**63,
    2**64 - 1,
    2**64,
    -(2**63),
    -(2**63) - 1,
    10**30,
]
STRANGE: list[Any] = [None, True, False, 0, 1, -1, -2, 5, 7, 20, 1000, 1001, 4096, 65535, 65536, *HUGE]
STRANGE += [
    1.0,
    0.5,
    -0.0,
    1e30,
    "",
    "0",
    "1",
    "x",
    "/",
    "/x",
    "x/y",
    ".",
    "..",
    "../x",
    "a b",
    " ",
    "a=b",
    "=b",
]
STRANGE += [
    "\0",
    "/\0",
    "a\0=b",
    "\ud800",
    "/\udcff",
    "a=\ud800",
    "x\n",
    "CAP_X",
    "CAP_",
    "MB:1",
    "2MB",
    "rr",
    "p",
]
STRANGE += ["\u00e9", "\U0001f600", "x" * 15, "x" * 16, "x" * 64, "x" * 65, "x" * 256, "\u00e9" * 40]
STRANGE += [
    [],
    [None],
    ["x"],
    ["/x"],
    ["a=b"],
    [1],
    [[]],
    [{}],
    {},
    {"x": 1},
    {"": ""},
    {"x": None},
    {"type": "pid"},
]
STRANGE += [[0] * 341, ["\0"], ["x", "\ud800"], [True], ["x", 1], {"\0": "x"}, {"\ud800": {}}, {"a/b": "x"}]

Place = tuple[str | int, ...]
Verdict = Callable[[object], bool]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Verdict]:
    """The checks of a freshly generated validator."""
    target = tmp_path_factory.mktemp("schema") / "_validator.py"
    compiler.build(target)
    spec = importlib.util.spec_from_file_location("fresh_validator", target)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert compiler.fingerprint() == module.SOURCE
    checks: dict[str, Verdict] = module.CHECKS
    return checks


def kind_of(name: str) -> str:
    return name.partition("-")[0]


def both(compiled: dict[str, Verdict], kind: str, value: Any) -> bool:
    """The verdict on `value`, which must be one."""
    fast, slow = compiled[kind](value), problems.accepts(value, kind)
    assert fast is slow, f"compiled says {fast}, jsonschema {slow}: {json.dumps(value)[:3000]}"
    return fast


def places(value: Any, here: Place = ()) -> Iterator[Place]:
    """The paths of everything inside `value`."""
    for step, part in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*here, step)
        if isinstance(part, dict | list):
            yield from places(part, (*here, step))


def holder(value: Any, place: Place) -> Any:
    for step in place[:-1]:
        value = value[step]
    return value


def mutants(value: Any, place: Place) -> Iterator[None]:
    """Change `value` in place at `place` in every way we know, yield after each, and restore it."""
    inside: Any = holder(value, place)
    step: Any = place[-1]
    old = inside[step]
    for strange in STRANGE:
        inside[step] = copy.copy(strange)
        yield
    inside[step] = old
    if isinstance(inside, list):
        del inside[step]
        yield
        inside.insert(step, old)
        inside.append(copy.deepcopy(old))
        yield
        inside.pop()
    else:
        members = list(inside.items())
        for name in [None, "x", "", ".", "a/b", "\0", "net.x"]:
            inside.clear()
            inside.update({(name if key == step else key): v for key, v in members if name is not None or key != step})
            yield
        inside.clear()
        inside.update(members)


def slices(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Small configurations that together hold everything in `config`."""

    def base() -> dict[str, Any]:
        return {"ociVersion": "1", "root": {"path": "r"}}

    for name, part in config.items():
        if name not in ("linux", "process"):
            yield {**base(), name: part}
    for name, part in config["process"].items():
        yield {**base(), "process": {"cwd": "/", "args": ["x"], name: part}}
    for name, part in config["linux"].items():
        if name != "resources":
            yield {**base(), "linux": {name: part}}
    for name, part in config["linux"]["resources"].items():
        yield {**base(), "linux": {"resources": {name: part}}}


@pytest.mark.parametrize("name", sorted(CORPUS))
def test_the_corpus_is_valid(compiled: dict[str, Verdict], name: str) -> None:
    value: Any = CORPUS[name]
    before = copy.deepcopy(value)
    assert both(compiled, kind_of(name), value)
    assert problems.problems(value, kind=kind_of(name)) == []
    assert value == before


@pytest.mark.parametrize("kind", compiler.KINDS)
def test_what_is_no_object_is_invalid(compiled: dict[str, Verdict], kind: str) -> None:
    values: list[Any] = [None, [], "x", 1, 1.5, True, {}, [{}]]
    for value in values:
        assert not both(compiled, kind, value)


def test_full_config_is_full() -> None:
    """The full config has every property of the schema."""

    def missing(schema: dict[str, Any], values: list[Any], where: str) -> Iterator[str]:
        for name, part in schema.get("properties", {}).items():
            present = [value[name] for value in values if name in value]
            if not present:
                yield f"{where}.{name}"
            yield from missing(part, present, f"{where}.{name}")
        if "items" in schema:
            yield from missing(schema["items"], [item for value in values for item in value], where + "[]")
        if isinstance(schema.get("additionalProperties"), dict):
            members = [member for value in values for member in value.values()]
            yield from missing(schema["additionalProperties"], members, where + ".*")

    for kind in ("config", "features"):
        assert list(missing(compiler.load(kind), [CORPUS[f"{kind}-full"]], kind)) == []


def test_every_single_change_of_a_config(compiled: dict[str, Verdict]) -> None:
    """Each value of the full configuration replaced by strange ones, removed, doubled, renamed."""
    verdicts = {True: 0, False: 0}
    for config in slices(copy.deepcopy(CORPUS["config-full"])):  # type: ignore[arg-type]
        assert both(compiled, "config", config)
        for place in list(places(config)):
            if place in (("ociVersion",), ("root",), ("root", "path")) and len(config) > 2:
                continue
            for _ in mutants(config, place):
                verdicts[both(compiled, "config", config)] += 1
        assert both(compiled, "config", config), "the configuration was not restored"
    assert min(verdicts.values()) > 2000


@pytest.mark.parametrize("name", ["process-exec", "state-running", "state-stopped", "features-full"])
def test_every_single_change_of_the_others(compiled: dict[str, Verdict], name: str) -> None:
    value: Any = copy.deepcopy(CORPUS[name])
    for place in list(places(value)):
        for _ in mutants(value, place):
            both(compiled, kind_of(name), value)
    assert value == CORPUS[name]


def test_many_changes_at_once(compiled: dict[str, Verdict]) -> None:
    chance = random.Random(20261123)
    names = sorted(CORPUS)
    for _ in range(400):
        name = chance.choice(names)
        value: Any = copy.deepcopy(CORPUS[name])
        for _ in range(chance.randint(1, 3)):
            place = chance.choice(list(places(value)))
            inside = holder(value, place)
            other: Any = CORPUS[chance.choice(names)]
            donor = chance.choice(list(places(other)))
            inside[place[-1]] = copy.deepcopy(chance.choice([holder(other, donor)[donor[-1]], *STRANGE]))
        accepted = both(compiled, kind_of(name), value)
        assert (problems.problems(value, kind=kind_of(name)) == []) is accepted


@pytest.mark.parametrize("bad", [-1, 2**32 - 1, 2**32, "1", 1.0, True, None, 10**20, [0], "root"])
@pytest.mark.parametrize("member", ["uid", "gid"])
def test_identities_are_exact(compiled: dict[str, Verdict], member: str, bad: Any) -> None:
    """What a system call would take for root, for 'unchanged' or for another user altogether."""
    process: dict[str, Any] = {"cwd": "/", "args": ["x"], "user": {"uid": 1, "gid": 1}}
    assert both(compiled, "process", process)
    process["user"][member] = bad
    assert both(compiled, "process", process) is (bad is None)  # absent is 0, in Go and in C
    process["user"] = {"uid": 1, "gid": 1, "additionalGids": [1, bad]}
    assert not both(compiled, "process", process)


def test_verdict_of_the_fast_gear(monkeypatch: pytest.MonkeyPatch, compiled: dict[str, Verdict]) -> None:
    monkeypatch.setattr(verdict, "CHECKS", compiled)
    monkeypatch.setattr(problems, "accepts", None)
    assert verdict.accepts(CORPUS["config-full"])
    assert verdict.accepts(CORPUS["process-exec"], "process")
    assert not verdict.accepts(CORPUS["process-exec"])


def test_verdict_without_a_compiled_validator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdict, "CHECKS", {})
    assert verdict.accepts(CORPUS["config-full"])
    assert not verdict.accepts(CORPUS["process-exec"])


def test_unknown_kind() -> None:
    for call in (verdict.accepts, problems.accepts, problems.problems):
        with pytest.raises(ValueError, match="'spec' is none of config, process, state, features"):
            call({}, kind="spec")


def test_a_compiled_validator_in_this_tree_is_current() -> None:
    try:
        from gosudacon.schema import _validator
    except ImportError:
        pytest.skip("not compiled here")
    assert compiler.fingerprint() == _validator.SOURCE, "run: python -m gosudacon.schema.compiler"
