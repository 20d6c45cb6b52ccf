"""What the bench reads: mountinfo, smaps_rollup, strace, importtime, and its own command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import layout, memory, options, plugins, runtimes, timing, trace
from gosudacon.pipeline import discovery

HYBRID = r"""
22 27 0:21 / /proc rw,relatime - proc proc rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 master:1 - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
90 27 0:50 / /mnt/a\040b rw - tmpfs tmpfs rw
"""
V2 = "31 23 0:28 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"


def test_plugins_that_ship_are_found(tmp_path: Path) -> None:
    """Each has a command of its own, with it alone enabled in a configuration that can be loaded."""
    found = plugins.variants(runtimes.Runtime("gosudacon", ("/x",)), tmp_path)
    assert [each.name for each in found] == ["gosudacon", *plugins.names()]
    assert {"cdi", "network", "policy"} < {each.name for each in found}
    for each in found:
        assert each.command[:2] == ("/x", "--config-file")
        enabled = discovery.enabled(each.command[2], True)
        assert enabled == [each.name][: len(enabled)]
    assert [each.name for each in found if not discovery.enabled(each.command[2], True)] == ["gosudacon"]


def test_mountinfo_with_optional_fields_and_escapes() -> None:
    table = layout.parse_mountinfo(HYBRID)
    assert [m.point for m in table][2:] == ["/sys/fs/cgroup/memory", "/sys/fs/cgroup/unified", "/mnt/a b"]
    assert layout.cgroup_points(table) == ["/sys/fs/cgroup/memory", "/sys/fs/cgroup/unified"]


def test_layouts() -> None:
    hybrid = layout.parse_mountinfo(HYBRID)
    v1 = [mount for mount in hybrid if mount.fstype != "cgroup2"]
    assert layout.layout(hybrid) == "hybrid"
    assert layout.layout(v1) == "v1"
    assert layout.layout(layout.parse_mountinfo(V2)) == "v2"
    assert layout.layout([]) == "none"


def test_only_a_hybrid_layout_has_something_to_hide() -> None:
    assert layout.unified_points(layout.parse_mountinfo(HYBRID)) == ["/sys/fs/cgroup/unified"]
    assert layout.unified_points(layout.parse_mountinfo(V2)) == []


def test_rollup_adds_the_private_pages() -> None:
    text = "400000-7ffe ---p 00000000 00:00 0    [rollup]\nRss: 900 kB\nPss: 500 kB\n"
    text += "Private_Clean: 30 kB\nPrivate_Dirty: 12 kB\n"
    fields = memory.parse_rollup(text)
    assert (fields["Rss"], fields["Pss"], fields["Private"]) == (900, 500, 42)


STRACE = """\
10 100.000000 execve("/usr/local/bin/gosudacon", ["gosudacon", "create"], 0x7 /* 2 vars */) = 0 <0.000500>
10 100.001000 execveat(4, "", ["/usr/bin/python3", "-ISB", "a \\"b\\" ]c"], 0x7, AT_EMPTY_PATH) = 0 <0.001000>
10 100.003000 read(5,  <unfinished ...>
11 100.004000 mount("proc", "/proc", "proc", 0, NULL) = 0 <0.000100>
10 100.005000 <... read resumed>"x", 1) = 1 <0.002000>
10 100.006000 --- SIGCHLD {si_signo=SIGCHLD} ---
11 100.007000 read(3,  <unfinished ...>
11 100.008000 +++ killed by SIGKILL +++
10 100.009000 exit_group(0) = ?
"""


def test_strace_unfinished_calls() -> None:
    """Strace joins calls that another process cut in two."""
    calls = trace.parse_strace(STRACE)
    assert [(call.pid, call.name) for call in calls] == [
        (10, "execve"), (10, "execveat"), (10, "read"), (11, "mount"),
    ]  # fmt: skip
    read = calls[2]
    assert (read.at, read.seconds, read.text) == (100.003, 0.002, 'read(5, "x", 1) = 1 <0.002000>')


def test_strace_totals_put_the_most_time_first() -> None:
    totals = trace.totals(trace.parse_strace(STRACE))
    assert list(totals) == ["read", "execveat", "execve", "mount"]
    assert totals["read"] == trace.Totals(1, 0.002)


def test_strace_behind_the_launcher() -> None:
    """Strace finds the interpreter behind the launcher."""
    calls = trace.parse_strace(STRACE)
    assert trace.executed(calls, 10) == (["/usr/bin/python3", "-ISB", 'a "b" ]c'], True)
    assert trace.executed(calls, 11) is None


def test_strace_shortened_arguments() -> None:
    """Strace that shortened the arguments is not guessed at."""
    text = '10 1.0 execve("/bin/a", ["a", ...], 0x7 /* 2 vars */) = 0 <0.1>\n'
    assert trace.executed(trace.parse_strace(text), 10) is None


def test_importtime() -> None:
    text = "import time: self [us] | cumulative | imported package\n"
    text += "import time:       120 |        120 |   _codecs\n"
    text += "some warning\n"
    text += "import time:       300 |        420 | codecs\n"
    assert trace.parse_imports(text) == [
        trace.Import("_codecs", 120, 120, 1),
        trace.Import("codecs", 300, 420, 0),
    ]


def test_a_runtime_given_as_a_command_line() -> None:
    found = runtimes.resolve("mine=/bin/true --flag", None, "/bin/true")
    assert (found.name, found.command, found.hide_unified) == ("mine", ("/bin/true", "--flag"), False)
    assert runtimes.resolve("crun-new=/bin/true", None, "/bin/true").hide_unified


@pytest.mark.parametrize("word", ["nothing-known", "mine=/no/such/program", "mine="])
def test_an_unknown_runtime_is_an_error(word: str) -> None:
    with pytest.raises(runtimes.UnknownRuntime):
        runtimes.resolve(word, None, "/bin/true")


@pytest.mark.parametrize(
    "words",
    [["--only", "creates"], ["--runs", "0"], ["--runs", "x"], ["--slots", "1,0"], ["--runtimes", ","]],
)
def test_a_bad_command_line_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        options.parser().parse_args(words)
    assert "error" in capsys.readouterr().err


def test_the_defaults_measure_everything() -> None:
    arguments = options.parser().parse_args([])
    assert arguments.only is None
    assert (arguments.runtimes, arguments.slots) == (["gosudacon", "runc", "crun", "bare"], [1, 16])


def test_clients_are_all_or_those_that_are_named() -> None:
    parse = options.parser().parse_args
    assert parse(["--clients"]).clients == ["ctr", "docker", "podman"]
    assert parse(["--clients", "podman"]).clients == ["podman"]
    with pytest.raises(SystemExit):
        parse(["--clients", "rkt"])


def test_only_wanted_commands() -> None:
    """Only what is wanted of a running container is done to it."""
    assert timing.steps(["exec", "run"]) == ["create", "start", "state", "exec", "kill", "delete"]
    assert timing.steps([]) == list(timing.STEPS)
