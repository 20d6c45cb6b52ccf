"""``python -m bench``."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from . import (
    bundle,
    clients,
    daemons,
    daily,
    goals,
    machine,
    memory,
    networks,
    options,
    plugins,
    pods,
    profiling,
    runtimes,
    scale,
    seccomp,
    tables,
    timing,
)
from .spawn import CommandFailed, TimedOut
from .workspace import Workspace

Measure = Callable[[Workspace, Namespace, dict[str, object]], tuple[list[tables.Table], bool]]
#: What went wrong with the set-up or a runtime, as opposed to a fault of the bench.
FAILURES = (
    clients.Unavailable,
    daemons.NoAnswer,
    runtimes.UnknownRuntime,
    bundle.BundleError,
    seccomp.NoProfile,
    profiling.NoProfile,
    CommandFailed,
    TimedOut,
    OSError,
    RuntimeError,
)
INTERRUPTED = 130


def main() -> int:
    """Run what the command line asks for; the exit status."""
    arguments = options.parser().parse_args()
    if os.geteuid() != 0:
        return _fail("needs root: it makes containers")
    try:
        from . import draw
    except ImportError:
        return _fail("the tables need rich: pip install rich (or apt-get install python3-rich)")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        return _run(arguments, draw.draw)
    except KeyboardInterrupt:
        return _fail("interrupted; everything was removed", INTERRUPTED)
    except FAILURES as error:
        return _fail(str(error))


def _run(arguments: Namespace, draw: Callable[..., None]) -> int:
    words = [arguments.profile] if arguments.profile else arguments.runtimes
    if arguments.plugins:
        words = [plugins.NONE]
    chosen = [runtimes.resolve(word, arguments.gosudacon, arguments.python) for word in words]
    if arguments.network:
        arguments.only = arguments.only or ["create", "delete", "run"]
        with networks.beside(runtimes.resolve("gosudacon", arguments.gosudacon, arguments.python)) as beside:
            return _compared(arguments, beside, draw)
    with tempfile.TemporaryDirectory(prefix="gosudacon-bench-") as configurations:
        if arguments.plugins:
            chosen = plugins.variants(chosen[0], Path(configurations))
        return _compared(arguments, chosen, draw)


def _compared(arguments: Namespace, chosen: list[runtimes.Runtime], draw: Callable[..., None]) -> int:
    variant = bundle.Variant(arguments.seccomp, arguments.userns, bool(arguments.plugins))
    facts = machine.facts()
    report: dict[str, object] = {
        "machine": facts,
        "runtimes": [asdict(one) for one in chosen],
        "variant": str(variant),
        "hide_unified": arguments.hide_unified,
    }
    with Workspace(chosen, variant, arguments.hide_unified, arguments.timeout) as work:
        measure = _measure(arguments)
        drawn, clean = measure(work, arguments, report)
        hidden = [one.name for one in chosen if work.hides_unified(one)]
    notes = [*machine.describe(facts, chosen[:1] if arguments.plugins else chosen), f"container: {variant}"]
    if hidden and facts["cgroups"] == "hybrid":
        notes.append(f"ran where the unified cgroup mount is hidden: {', '.join(hidden)}")
    draw(drawn, notes)
    if arguments.json:
        _write(arguments.json, report)
    return 0 if clean else 1


def _measure(arguments: Namespace) -> Measure:
    if arguments.profile:
        return _profile
    if arguments.clients:
        return _clients
    if arguments.pods:
        return _pods
    if arguments.plugins:
        return _plugins
    return _scale if arguments.scale else _timed


def _timed(work: Workspace, arguments: Namespace, report: dict[str, object]) -> tuple[list[tables.Table], bool]:
    order = list(work.runtimes)
    with work.spawner.signals():
        found = timing.Timing(work, arguments.only or list(timing.COMMANDS), arguments.settle / 1000).rounds(
            arguments.warmup, arguments.runs, _progress(arguments)
        )
        peaks: memory.Peaks = {}
        waiting: dict[str, dict[str, list[int]]] = {}
        if not arguments.no_memory:
            _say(arguments, "memory")
            peaks = memory.measure_peaks(work, arguments.python, arguments.memory_samples)
            waiting = memory.measure_waiting_init(work, arguments.memory_samples)
        left = _left(work)
    judged = goals.judge(found, peaks)
    for key in ("runs", "warmup", "settle"):
        report[key] = getattr(arguments, key)
    report["wall_ns"] = {c: {n: s.wall for n, s in by.items()} for c, by in found.items()}
    report["cpu_ns"] = {c: {n: s.cpu for n, s in by.items()} for c, by in found.items()}
    report["summary_ns"] = {c: {n: asdict(s) for n, s in by.items()} for c, by in tables.summaries(found).items()}
    report["peak_kib"], report["waiting_init_kib"] = peaks, waiting
    report["goals"] = [asdict(goal) | {"met": goal.met} for goal in judged]
    report["left_over"] = left
    drawn = [
        tables.timing_table(found, order),
        tables.peak_table(peaks, order),
        tables.waiting_table(waiting),
        goals.goals_table(judged),
    ]
    return drawn, not left


def _scale(work: Workspace, arguments: Namespace, report: dict[str, object]) -> tuple[list[tables.Table], bool]:
    with work.spawner.signals():
        runs = scale.measure(work, arguments.containers, arguments.slots, lambda text: _say(arguments, text))
    report["scale"] = [asdict(run) | {"total": run.total} for run in runs]
    return [tables.scale_table(runs)], not any(run.left for run in runs)


def _clients(work: Workspace, arguments: Namespace, report: dict[str, object]) -> tuple[list[tables.Table], bool]:
    run = daily.Daily(work, arguments.settle / 1000, lambda text: _say(arguments, text), _shim(work))
    with work.spawner.signals():
        for kind in clients.KINDS:
            if kind.name in arguments.clients:
                run.measure(kind, arguments.warmup, arguments.runs)
        left = _left(work)
    judged = goals.judge_clients(run.results)
    report["clients_wall_ns"] = {c: {n: s.wall for n, s in by.items()} for c, by in run.results.items()}
    report["skipped"] = run.skipped
    report["goals"] = [asdict(goal) | {"met": goal.met} for goal in judged]
    drawn = [
        tables.clients_table(run.results, [clients.SHIM, *work.runtimes]),
        tables.skipped_table(run.skipped),
        goals.goals_table(judged),
    ]
    return drawn, not left


def _pods(work: Workspace, arguments: Namespace, report: dict[str, object]) -> tuple[list[tables.Table], bool]:
    run = pods.Pods(work, arguments.settle / 1000, lambda text: _say(arguments, text))
    with work.spawner.signals():
        run.measure(_shim(work), arguments.warmup, arguments.runs, arguments.containers)
        left = _left(work)
    report["pods_wall_ns"] = {c: {n: s.wall for n, s in by.items()} for c, by in run.results.items()}
    report["pods_cpu_ns"] = {c: {n: s.cpu for n, s in by.items()} for c, by in run.results.items()}
    report["many_pods"] = {name: asdict(many) for name, many in run.many.items()}
    report["skipped"] = run.skipped
    judged = goals.judge_pods(run.results, run.many)
    report["goals"] = [asdict(goal) | {"met": goal.met} for goal in judged]
    order = [clients.SHIM, *work.runtimes]
    drawn = [
        tables.pods_table(run.results, order),
        tables.many_table(run.many, pods.ENDS),
        tables.skipped_table(run.skipped),
        goals.goals_table(judged),
    ]
    return drawn, not left and not any(many.left for many in run.many.values())


def _plugins(work: Workspace, arguments: Namespace, report: dict[str, object]) -> tuple[list[tables.Table], bool]:
    imports, skipped = plugins.imports(arguments.runs)
    with work.spawner.signals():
        skipped += plugins.leave_out(work)
        found = timing.Timing(work, ["create"], arguments.settle / 1000).rounds(
            arguments.warmup, arguments.runs, _progress(arguments)
        )
        left = _left(work)
    created = found["create"]
    report["imports"], report["skipped"], report["left_over"] = imports, skipped, left
    report["create_wall_ns"] = {name: series.wall for name, series in created.items()}
    report["create_cpu_ns"] = {name: series.cpu for name, series in created.items()}
    return [tables.plugins_table(imports, created, plugins.NONE), tables.skipped_table(skipped)], not left


def _shim(work: Workspace) -> Path | None:
    return clients.own_shim([*work.runtimes.values()])


def _profile(work: Workspace, arguments: Namespace, report: dict[str, object]) -> tuple[list[tables.Table], bool]:
    (name,) = work.runtimes
    with work.spawner.signals():
        found = profiling.profile(work, name, arguments.only or ["create"])
    report["profile"] = [asdict(one) for one in found]
    return [table for one in found for table in profiling.tables_of(one)], not _left(work)


def _left(work: Workspace) -> dict[str, str]:
    """What each runtime left behind, said on stderr as well; empty when all was clean."""
    left = {}
    for one in work.runtimes.values():
        if one.name != runtimes.BARE:
            found = scale.settled(work, one)
            if found:
                left[one.name] = str(found)
                print(f"bench: {one.name} left {found} behind", file=sys.stderr)
    return left


def _progress(arguments: Namespace) -> Callable[[int, int], None]:
    """A line on a terminal that counts the rounds; nothing elsewhere."""
    if arguments.quiet or not sys.stderr.isatty():
        return lambda _done, _all: None

    def show(done: int, everything: int) -> None:
        end = "\n" if done == everything else ""
        print(f"\rround {done}/{everything}", end=end, file=sys.stderr, flush=True)

    return show


def _say(arguments: Namespace, text: str) -> None:
    if not arguments.quiet:
        print(text, file=sys.stderr, flush=True)


def _write(path: Path, report: dict[str, object]) -> None:
    path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")


def _fail(text: str, status: int = 1) -> int:
    print(f"bench: {text}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
