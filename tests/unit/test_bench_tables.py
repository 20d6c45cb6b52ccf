"""What the bench's tables and targets say about given samples."""

from __future__ import annotations

import pytest

from bench import goals, tables
from bench.leftovers import Leftovers
from bench.pods import Many
from bench.scale import ScaleRun
from bench.timing import Results, Series

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.container.kit.plugins import Cost

ORDER = ["gosudacon", "runc", "bare"]


def series(*milliseconds: float) -> Series:
    nanoseconds = [round(value * 1e6) for value in milliseconds]
    return Series(wall=nanoseconds, cpu=[value // 2 for value in nanoseconds])


@pytest.fixture
def results() -> Results:
    return {
        "create": {"gosudacon": series(19, 20, 21), "runc": series(24, 25, 26)},
        "start": {"gosudacon": series(9, 9, 9), "runc": series(5, 5, 5)},
        "state": {"gosudacon": series(10.5, 10.5, 10.5), "runc": series(5, 5, 5)},
        "bare": {"bare": series(7, 7, 7)},
    }


@pytest.mark.parametrize(
    ("nanoseconds", "shown"),
    [(1_234_567, "1.23"), (99_990_000, "99.99"), (123_456_789, "123.5"), (-1_500_000, "-1.50"), (None, "-")],
)
def test_milliseconds(nanoseconds: float | None, shown: str) -> None:
    assert tables.milliseconds(nanoseconds) == shown


def test_timing_table_rows(results: Results) -> None:
    """Timing table has a row per command and runtime."""
    table = tables.timing_table(results, ORDER)
    assert table.heads == ("command", "runtime", "median", "min", "p10..p90", "cpu", "x runc", "- bare")
    assert table.rows[0] == (
        "create", "gosudacon", "20.00", "19.00", "19.20..20.80", "10.00", "0.80", "13.00",
    )  # fmt: skip
    assert table.rows[1][:2] == ("", "runc"), "the command stands once, above its runtimes"
    assert table.rows[-1] == ("bare", "bare", "7.00", "7.00", "7.00..7.00", "3.50", "-", "-")


def test_timing_table_without_base(results: Results) -> None:
    """Timing table without a base has no ratio to it."""
    del results["create"]["runc"]
    row = tables.timing_table(results, ["gosudacon", "bare"]).rows[0]
    assert row == ("create", "gosudacon", "20.00", "19.00", "19.20..20.80", "10.00", "13.00")


def test_timing_table_without_interpreter(results: Results) -> None:
    """Timing table without the bare interpreter has no distance from it."""
    del results["bare"]
    assert tables.timing_table(results, ["gosudacon", "runc"]).rows[0][-1] == tables.NONE


def test_peak_table_shows_medians_and_gaps() -> None:
    peaks = {"runc": {"create": [9216, 10240, 99999]}, "bare": {"bare": [7168]}}
    table = tables.peak_table(peaks, ["runc", "bare"])
    assert table.rows == (("create", "10.0", "-"), ("bare", "-", "7.0"))


def test_waiting_table() -> None:
    table = tables.waiting_table({"runc": {"Private": [1024], "Pss": [2048], "Rss": [3072]}})
    assert table.rows == (("runc", "1.0", "2.0", "3.0"),)


def test_scale_table() -> None:
    """Scale table counts per container and names what is left."""
    phases = {"create": 40_000_000, "start": 20_000_000, "list": 8_000_000, "delete": 10_000_000}
    clean = ScaleRun("gosudacon", 10, 1, phases)
    dirty = ScaleRun("runc", 10, 1, phases, Leftovers(cgroups=["/a", "/b"], processes=["1 sleep"]))
    table = tables.scale_table([clean, dirty])
    assert table.rows[0] == (
        "1", "gosudacon", "4.00", "2.00", "8.00", "-", "-", "1.00", "0.08", "nothing",
    )  # fmt: skip
    assert table.rows[1][-1] == "2 cgroups, 1 processes"


def test_goals_are_judged_on_medians(results: Results) -> None:
    peaks = {"gosudacon": {"create": [9000]}, "runc": {"create": [9600]}}
    verdicts = {goal.name: goal.met for goal in goals.judge(results, peaks)}
    assert verdicts == {
        "create ≤ 0.8 x runc": True,
        "start ≤ bare + 3 ms": True,
        "state ≤ bare + 3 ms": False,
        "peak memory of create ≤ runc": True,
    }


def test_goals_table_says_by_how_much(results: Results) -> None:
    rows = goals.goals_table(goals.judge(results, {})).rows
    assert rows[-1] == ("state ≤ bare + 3 ms", "10.50 ms", "10.00 ms", "missed by 0.50 ms")


def test_no_goals_without_the_subject(results: Results) -> None:
    for found in results.values():
        found.pop("gosudacon", None)
    assert goals.judge(results, {"runc": {"create": [9600]}}) == []


def test_clients_table() -> None:
    """Clients are compared with runc below the same client."""
    found = {
        "ctr": {"gosudacon": series(90, 90, 90), "runc": series(100, 100, 100)},
        "podman": {"gosudacon": series(220, 220, 220)},
    }
    table = tables.clients_table(found, ORDER)
    assert table.heads == ("client", "runtime", "median", "min", "p10..p90", "x runc")
    assert [row[:3] + row[-1:] for row in table.rows] == [
        ("ctr", "gosudacon", "90.00", "0.90"), ("", "runc", "100.0", "1.00"), ("podman", "gosudacon", "220.0", "-"),
    ]  # fmt: skip
    (goal,) = goals.judge_clients(found)
    assert (goal.name, goal.met) == ("ctr run --rm ≤ with runc", True)


def test_plugins() -> None:
    """The command alone first; a plugin that cannot create here still has its imports."""
    cost: Cost = {"milliseconds": 1.5, "processor_milliseconds": 1.25, "modules": 3, "starts": 5}
    table = tables.plugins_table({"cdi": cost, "odd": cost}, {"cdi": series(12), "gosudacon": series(10)}, "gosudacon")
    assert table.rows == (
        ("gosudacon", "-", "-", "-", "10.00", "5.00", "-", "-"),
        ("cdi", "3", "1.50", "1.25", "12.00", "6.00", "+2.00", "+1.00"),
        ("odd", "3", "1.50", "1.25", "-", "-", "-", "-"),
    )


def test_exec_has_a_target() -> None:
    (goal,) = goals.judge({"exec": {"gosudacon": series(17), "runc": series(20)}}, {})
    assert (goal.name, goal.met) == ("exec ≤ 0.8 x runc", False)


def test_pods() -> None:
    """Wall and processor time, each beside runc's; the first and the last of many."""
    found = {"shim": Series([4_000_000], [1_000_000]), "runc": Series([8_000_000], [4_000_000])}
    table = tables.pods_table({"pod": found}, ["shim", "runc"])
    assert table.rows == (
        ("pod", "shim", "4.00", "1.00", "0.50", "0.25"),
        ("", "runc", "8.00", "4.00", "1.00", "1.00"),
    )
    (goal,) = goals.judge_pods({"pod": found}, {})
    assert (goal.figure, goal.limit, goal.met) == (4_000_000, 0.6 * 8_000_000, True)
    many = Many(3, [1_000_000, 2_000_000, 3_000_000], [5_000_000], [1024, 3072], [4096], ["process 7"])
    assert tables.many_table({"shim": many}, 1).rows == (
        ("shim", "3", "1.00", "3.00", "3.00", "5.00", "2.0", "4.0", "1: process 7"),
    )
    assert [goal.met for goal in goals.judge_pods({}, {"shim": many})] == [True, False, False]
