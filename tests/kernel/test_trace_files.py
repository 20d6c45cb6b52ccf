"""``--trace``: what a command did and when, on both sides, in files that other tools read."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gosudacon.cli.trace import load
from gosudacon.trace import analysis, chrome, otlp
from gosudacon.trace.model import CONTAINER, CUT, FAILED, RUNTIME, SEEN, STEP, UNDO, WAIT, Trace
from tests.support import processes
from tests.support.bundle import Bundle
from tests.support.needs import needs
from tests.support.runtime import Runtime

Bundles = Callable[..., Bundle]
SLEEP = ["/bin/sleep", "1000"]
MILLION = 10**6  # seconds
TRUE = [{"path": "/bin/true"}]


def check(trace: Trace) -> Trace:
    """What holds for every trace: spans of a side follow each other, and nothing lies outside of the command."""
    for side in (RUNTIME, CONTAINER):
        at = 0
        for span in trace.side(side):
            assert at <= span.start <= span.end, (side, span.name, at, span.start, span.end)
            at = span.end
        covered = trace.total(*("step", "wait", "around", "undo"), side=side)
        gaps = sum(end - start for start, end in trace.gaps(side))
        spans = trace.side(side)
        first = 0 if side == RUNTIME or not spans else spans[0].start
        assert covered + gaps == (trace.duration if side == RUNTIME else (at - first))
        assert at <= trace.duration
    assert sum(part.duration for part in analysis.critical_path(trace)) == trace.duration
    assert trace.processor() <= trace.total(STEP) + 10**6
    check_events(json.loads(chrome.dumps(trace)))
    check_spans(json.loads(otlp.dumps(trace)))
    for again in (chrome.loads(chrome.dumps(trace)), otlp.loads(otlp.dumps(trace))):
        assert [(span.name[:200], span.start, span.end, span.facts()) for span in again.spans] == [
            (span.name[:200], span.start, span.end, span.facts()) for span in sorted_as(trace, again)
        ]
        assert (again.duration, again.error, again.not_run) == (trace.duration, trace.error, trace.not_run)
    return trace


def sorted_as(trace: Trace, other: Trace) -> list[Any]:
    """The spans in the order of another trace of the same spans."""
    place = {(span.side, span.name[:200], span.start, span.kind): number for number, span in enumerate(other.spans)}
    return sorted(trace.spans, key=lambda span: place[span.side, span.name[:200], span.start, span.kind])


def check_events(data: dict[str, Any]) -> None:
    """Perfetto's rules: ids and processes are integers, slices of a thread do not overlap, arrows lie in slices."""
    slices: dict[int, list[tuple[float, float]]] = {}
    for event in data["traceEvents"]:
        assert isinstance(event["pid"], int) and isinstance(event["tid"], int)
        if event["ph"] == "X":
            slices.setdefault(event["tid"], []).append((event["ts"], event["ts"] + event["dur"]))
    for found in slices.values():
        found.sort()
        assert all(one[1] <= other[0] + 1e-6 for one, other in itertools.pairwise(found))
    flows = [event for event in data["traceEvents"] if event["ph"] in "sf"]
    for event in flows:
        assert isinstance(event["id"], int)
        assert any(start <= event["ts"] <= end for start, end in slices[event["tid"]]), event
    assert sorted(event["id"] for event in flows if event["ph"] == "s") == sorted(
        event["id"] for event in flows if event["ph"] == "f"
    )


def check_spans(data: dict[str, Any]) -> None:
    """The JSON form of OTLP: hexadecimal ids, times and integers as strings, kinds as numbers."""
    spans = data["resourceSpans"][0]["scopeSpans"][0]["spans"]
    ids = {span["spanId"] for span in spans}
    assert len(ids) == len(spans)
    for span in spans:
        assert re.fullmatch("[0-9a-f]{32}", span["traceId"]) and re.fullmatch("[0-9a-f]{16}", span["spanId"])
        assert span["kind"] == 1 and int(span["startTimeUnixNano"]) <= int(span["endTimeUnixNano"])
        assert isinstance(span["startTimeUnixNano"], str)
        assert all(link["spanId"] in ids for link in span.get("links", ()))
        for attribute in span["attributes"]:
            ((kind, value),) = attribute["value"].items()
            assert kind in ("stringValue", "intValue", "boolValue") and isinstance(
                value, bool if kind[0] == "b" else str
            )


class Traced:
    """Commands with ``--trace``, and their traces."""

    def __init__(self, runtime: Runtime, directory: Path) -> None:
        self.runtime = runtime
        self.file = directory / "trace.json"

    def __call__(self, command: str, *words: str | Path, status: int = 0, **more: Any) -> Trace:
        self.file.unlink(missing_ok=True)
        result = self.runtime.call(command, "--trace", self.file, *words, check=False, **more)
        assert result.returncode == status, result.stderr
        return check(load(str(self.file)))

    def create(self, bundle: Bundle, status: int = 0) -> Trace:
        outputs = (bundle.path / "stdout", bundle.path / "stderr")
        self.runtime.created.append(bundle.id)
        return self("create", "--bundle", bundle.path, bundle.id, status=status, outputs=outputs)


@pytest.fixture
def traced(runtime: Runtime, scratch: Path) -> Traced:
    return Traced(runtime, scratch)


def names(trace: Trace, side: str) -> list[str]:
    return [span.name for span in trace.side(side) if span.kind == STEP]


def planned(runtime: Runtime, bundle: Bundle, side: str) -> list[str]:
    """The lines of `explain` for one side, with the container's id as ID."""
    data = json.loads(runtime.call("explain", "--format", "json", bundle.path).stdout)
    steps = [step for step in data["steps"] if step["phase"] not in ("started", "delete") and step["side"] == side]
    return [step["what"].replace(bundle.id, "ID").replace(data["id"], "ID") for step in steps]


def shaped(bundle: Bundle, shape: str) -> Bundle:
    bundle.set("process.args", SLEEP)
    if shape == "userns":
        bundle.add_namespace("user").map_users()
    if shape.startswith("time"):
        seconds = MILLION if shape == "time ahead" else -100
        bundle.add_namespace("time").set("linux.timeOffsets", {"monotonic": {"secs": seconds, "nanosecs": 5}})
    if shape == "hooks":
        bundle.set("hooks", {kind: TRUE for kind in ("prestart", "createRuntime", "createContainer")})
    return bundle


@pytest.mark.vm
@pytest.mark.parametrize("shape", ["plain", "userns", "time ahead", "time behind", "hooks"])
def test_create(traced: Traced, bundle: Bundle, shape: str) -> None:
    """Every step of the plan is a span of its side, under the line that `explain` prints."""
    trace = traced.create(shaped(bundle, shape))
    ran = {}
    for side in (RUNTIME, CONTAINER):
        ran[side] = [name.replace(bundle.id, "ID").replace(bundle.path.name, "ID") for name in names(trace, side)]
    assert ran[RUNTIME] == planned(traced.runtime, bundle, RUNTIME)
    assert ran[CONTAINER] + trace.not_run == planned(traced.runtime, bundle, CONTAINER)
    assert [span.name for span in trace.side(CONTAINER)][-1] == "wait for start"
    spawn = next(span for span in trace.spans if span.spawns)
    first = trace.side(CONTAINER)[0]
    assert spawn.start < first.start < trace.duration
    assert all(span.processor >= 0 for span in trace.side(CONTAINER)[:5] if span.kind == STEP)


@pytest.mark.vm
def test_life(traced: Traced, bundle: Bundle) -> None:
    """start, exec, update, delete. Init reports to `start`, since its creation was traced."""
    bundle.set("hooks", {"startContainer": TRUE, "poststart": TRUE, "poststop": TRUE})
    traced.create(shaped(bundle, "time ahead"))
    trace = traced("start", bundle.id)
    assert any("hook" in name for name in names(trace, CONTAINER))
    last = trace.side(CONTAINER)[-1]
    assert last.name.startswith("execve") and last.status == SEEN
    assert any("hook" in name for name in names(trace, RUNTIME))
    trace = traced("exec", bundle.id, "true")
    assert trace.side(CONTAINER)[-1].name.startswith("execve")
    assert any(span.kind == WAIT for span in trace.side(RUNTIME))
    trace = traced("update", "--pids-limit", "100", bundle.id)
    assert names(trace, RUNTIME) and not trace.side(CONTAINER)
    pid = traced.runtime.pid(bundle)
    traced.runtime.call("kill", bundle.id, "KILL")
    processes.wait(pid)
    trace = traced("delete", bundle.id)
    assert any(span.kind == UNDO for span in trace.spans)
    assert any("hook" in name for name in names(trace, RUNTIME))


def test_run(traced: Traced, bundle: Bundle) -> None:
    trace = traced("run", "--bundle", bundle.set("process.args", ["true"]).path, bundle.id)
    assert [span.status for span in trace.side(CONTAINER)][-1] == SEEN
    assert any(span.kind == UNDO for span in trace.spans) and not trace.not_run


def test_a_trace_of_create_does_not_disturb_start(traced: Traced, bundle: Bundle) -> None:
    traced.create(shaped(bundle, "plain"))
    traced.runtime.start(bundle)
    assert traced.runtime.state(bundle)["status"] == "running"


def test_start_of_a_container_that_was_not_traced(traced: Traced, bundle: Bundle) -> None:
    traced.runtime.create(shaped(bundle, "plain"))
    assert traced("start", bundle.id).side(CONTAINER) == []


def test_a_step_of_the_runtime_fails(traced: Traced, bundle: Bundle) -> None:
    bundle.add_mount("/mnt", "bind", "/does/not/exist", "bind")
    trace = traced.create(bundle, status=1)
    (span,) = [span for span in trace.spans if span.status == FAILED]
    assert span.side == RUNTIME and span.errno == 2 and span.call == "open_tree"
    assert trace.not_run and "no such file" in trace.error
    assert any(span.kind == UNDO for span in trace.spans)


def test_a_step_of_the_container_fails(traced: Traced, bundle: Bundle) -> None:
    bundle.add_mount("/mnt", "nosuchfs", "none")
    trace = traced.create(bundle, status=1)
    (span,) = [span for span in trace.spans if span.status == FAILED]
    assert span.side == CONTAINER and "nosuchfs" in span.name
    assert any(span.kind == UNDO for span in trace.spans)


def test_init_is_killed(traced: Traced, bundle: Bundle) -> None:
    """The memory that the sides share tells in which step it was."""
    hook = {"path": "/bin/sh", "args": ["sh", "-c", 'read x; pid=${x##*"pid":}; kill -9 ${pid%%[,\\}]*}']}
    trace = traced.create(bundle.set("hooks", {"createRuntime": [hook]}), status=1)
    assert any(span.status in (CUT, FAILED) for span in trace.spans) or trace.error
    assert trace.not_run and trace.error


@pytest.mark.parametrize("action", ["SCMP_ACT_KILL_PROCESS", "SCMP_ACT_ERRNO"])
def test_behind_a_filter_that_refuses_clocks(traced: Traced, bundle: Bundle, action: str) -> None:
    """Nothing that tracing needs is called behind the filter."""
    rule = {"names": ["clock_gettime", "getpid", "write", "sendto", "sendmsg"], "action": action}
    bundle.set("linux.seccomp", {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})
    bundle.set("process.args", SLEEP)
    traced.create(bundle)
    traced("start", bundle.id)
    assert traced.runtime.state(bundle)["status"] == "running"
    traced("exec", bundle.id, "/bin/true")


@pytest.mark.skipif(not os.path.exists("/usr/bin/strace"), reason="needs program:strace")
def test_no_system_call_more_in_the_container(runtime: Runtime, make_bundle: Bundles, scratch: Path) -> None:
    """But for the processor's clock, which no other way leads to."""
    counts = []
    plain = list(runtime.command)
    for options in ([], ["--trace", str(scratch / "t.json")]):
        bundle = make_bundle().set("process.args", ["true"])
        log = scratch / f"strace-{len(options)}"
        runtime.command = ["strace", "-ff", "-o", str(log), *plain]
        try:
            runtime.call("run", *options, "--pid-file", scratch / "pid", "--bundle", bundle.path, bundle.id)
        finally:
            runtime.command = plain
        found = re.findall(r"^(\w+)\(", Path(f"{log}.{(scratch / 'pid').read_text()}").read_text(), re.MULTILINE)
        counts.append([name for name in found if name not in ("clock_gettime", "brk", "mmap", "munmap", "mremap")])
    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("trace.txt", "must end in .json, .jsonl, .svg, .html"),
        ("no/such/trace.json", "is not a directory"),
        (".", "must end in"),
        ("directory.json", "is a directory"),
        ("fifo.json", "is not a regular file"),
    ],
)
def test_files_that_cannot_be_written(runtime: Runtime, bundle: Bundle, scratch: Path, name: str, words: str) -> None:
    """Said before anything is made."""
    (scratch / "directory.json").mkdir()
    os.mkfifo(scratch / "fifo.json")
    result = runtime.call("create", "--trace", scratch / name, "--bundle", bundle.path, bundle.id, check=False)
    assert result.returncode == 1 and words in result.stderr
    assert runtime.call("state", bundle.id, check=False).returncode == 1


@needs("root")
def test_a_full_disk(runtime: Runtime, bundle: Bundle, scratch: Path) -> None:
    """A trace never makes a command fail."""
    full = scratch / "full"
    full.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", full], check=True)
    try:
        (full / "filler").write_bytes(b"x" * 4096)
        bundle.set("process.args", ["true"])
        result = runtime.call("run", "--trace", full / "t.json", "--bundle", bundle.path, bundle.id)
        assert "cannot write the trace" in result.stderr and sorted(os.listdir(full)) == ["filler"]
    finally:
        subprocess.run(["umount", full], check=True)


@pytest.mark.parametrize("suffix", [".svg", ".html"])
def test_pictures(runtime: Runtime, bundle: Bundle, scratch: Path, suffix: str) -> None:
    """Nothing in them is from elsewhere."""
    file = scratch / f"trace{suffix}"
    bundle.set("process.args", ["true"])
    runtime.call("run", "--trace", file, "--bundle", bundle.path, bundle.id)
    text = file.read_text()
    assert "pivot_root" in text and "<script" not in text
    assert set(re.findall(r'https?://[^"\s]+', text)) <= {"http://www.w3.org/2000/svg"}


def test_parent_from_the_environment(runtime: Runtime, bundle: Bundle, scratch: Path) -> None:
    file = scratch / "trace.jsonl"
    parent = "00-5b8efff798038103d269b633813fc60c-00f067aa0ba902b7-01"
    bundle.set("process.args", ["true"])
    words = ("run", "--trace", file, "--bundle", bundle.path, bundle.id)
    runtime.call(*words, env={**os.environ, "TRACEPARENT": parent})
    spans = json.loads(file.read_text())["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert {span["traceId"] for span in spans} == {"5b8efff798038103d269b633813fc60c"}
    assert spans[0]["parentSpanId"] == "00f067aa0ba902b7"


def test_the_administrators_setting(runtime: Runtime, bundle: Bundle, scratch: Path) -> None:
    """Every command of an engine is traced, and the oldest traces go."""
    traces, config = scratch / "traces", scratch / "config.toml"
    config.write_text(f'[trace]\ndirectory = "{traces}"\nformat = "jsonl"\nkeep = 4\n')
    runtime.command += ["--config-file", str(config)]
    runtime.create(bundle.set("process.args", SLEEP))
    (traces / "not-ours.jsonl").write_text("")
    runtime.start(bundle)
    runtime.call("exec", bundle.id, "true")
    pid = runtime.pid(bundle)
    runtime.call("kill", bundle.id, "KILL")
    processes.wait(pid)
    runtime.delete(bundle)
    made = [name.removeprefix(bundle.id).split("-")[1] for name in os.listdir(traces) if name.startswith(bundle.id)]
    assert sorted(made) == ["create", "delete", "exec", "start"]
    for name in os.listdir(traces):
        if name.startswith(bundle.id):
            check(load(str(traces / name)))
    runtime.call("run", "--bundle", bundle.set("process.args", ["true"]).path, bundle.id)
    left = [name.removeprefix(bundle.id).split("-")[1] for name in os.listdir(traces) if name.startswith(bundle.id)]
    assert sorted(left) == ["delete", "exec", "run", "start"]


def test_a_directory_that_cannot_be_used(runtime: Runtime, bundle: Bundle, scratch: Path) -> None:
    """Said, and no failure."""
    (scratch / "file").write_text("")
    config = scratch / "config.toml"
    config.write_text(f'[trace]\ndirectory = "{scratch}/file"\n')
    runtime.command += ["--config-file", str(config)]
    result = runtime.call("run", "--bundle", bundle.set("process.args", ["true"]).path, bundle.id)
    assert "cannot write a trace" in result.stderr


@pytest.mark.parametrize(
    "table",
    ["keep = 1", 'directory = "relative"', 'directory = "/x"\nkeep = 0', 'directory = "/x"\nformat = "xml"', "x = 1"],
)
def test_settings_that_make_no_sense(runtime: Runtime, bundle: Bundle, scratch: Path, table: str) -> None:
    config = scratch / "config.toml"
    config.write_text(f"[trace]\n{table}\n")
    runtime.command += ["--config-file", str(config)]
    result = runtime.call("run", "--bundle", bundle.path, bundle.id, check=False)
    assert result.returncode == 1 and "[trace]" in result.stderr
