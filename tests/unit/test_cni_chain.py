"""The steps of the plugin cni with plug-ins that are scripts: in which order they are asked, and what undoes them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gosudacon.api import Context, Error
from gosudacon.base import jsonio, layout, posix
from gosudacon.plugins.cni import calls, namespace, record, undoing
from gosudacon.plugins.cni.record import Record
from gosudacon.plugins.cni.steps import AddNetwork, Done, PinNamespace, WriteNote
from tests.support import cni_fakes
from tests.support.cni_fakes import RESULT, Plugins, noted, speaking
from tests.support.needs import needs

pytestmark = needs("root")
fakes = cni_fakes.fakes  # the fixture


class Chain:
    """The steps of a container whose init is a process in a network namespace of its own."""

    def __init__(self, fakes: Plugins, *kinds: str, pid: int = 0) -> None:
        self.fakes = fakes
        header = fakes.header(*kinds)
        self.steps: list[Any] = [WriteNote(**noted(header)), PinNamespace()]
        self.steps += [
            AddNetwork(
                attachment=0,
                plugin=number,
                network="tnet",
                kind=kind,
                interface="eth0",
                ports=[],
                last=number == len(kinds) - 1,
            )
            for number, kind in enumerate(kinds)
        ]
        self.pid = pid

    def run(self) -> Context:
        context = self.fakes.context()
        context.pid = self.pid
        for step in self.steps:
            step.run(context)
        return context

    def undo(self, context: Context | None = None) -> list[Error]:
        """As `delete` does, or the runner after a failure."""
        context = context or self.fakes.context()
        failures = []
        for step in reversed(self.steps):
            try:
                step.undo(context)
            except Error as error:
                failures.append(error)
        return failures

    def expect_nothing(self) -> None:
        assert os.listdir(self.fakes.state) == []
        assert str(self.fakes.state) not in Path("/proc/self/mountinfo").read_text()


@pytest.fixture
def init() -> Iterator[int]:
    with subprocess.Popen(["unshare", "--net", "sleep", "1000"]) as process:
        own = os.readlink("/proc/self/ns/net")
        while os.readlink(f"/proc/{process.pid}/ns/net") == own:
            time.sleep(0.01)
        yield process.pid
        process.kill()


def test_the_chain_and_back(fakes: Plugins, init: int) -> None:
    """Each plug-in gets the result of the one before; DEL comes in reverse order with the last result."""
    second = {**RESULT, "routes": [{"dst": "0.0.0.0/0"}]}
    fakes.script("one")
    fakes.script("two", result=second)
    fakes.script("three", result=second)
    chain = Chain(fakes, "one", "two", "three", pid=init)
    context = chain.run()
    assert context.addresses == {"eth0": ["10.1.2.3/24"]}
    assert "CNI_NETNS=" + str(fakes.state / "cni.netns") in (fakes.path / "log.env.ADD").read_text()
    os.kill(init, signal.SIGKILL)
    assert chain.undo() == []
    assert fakes.calls() == ["ADD one", "ADD two", "ADD three", "DEL three", "DEL two", "DEL one"]
    previous = [line["config"].get("prevResult") for line in fakes.lines()]
    assert previous == [None, RESULT, second, second, second, second]
    assert "CNI_NETNS=" + str(fakes.state / "cni.netns") in (fakes.path / "log.env.DEL").read_text()
    chain.expect_nothing()
    assert chain.undo() == []
    assert len(fakes.calls()) == 6


def test_an_add_that_fails_is_undone_as_far_as_it_went(fakes: Plugins, init: int) -> None:
    fakes.script("one")
    fakes.script("two", '[ $CNI_COMMAND = DEL ] || { echo \'{"code": 100, "msg": "full"}\'; exit 1; }')
    fakes.script("three")
    chain = Chain(fakes, "one", "two", "three", pid=init)
    with pytest.raises(Error, match=r"CNI ADD tnet/two: full \(code 100\)"):
        chain.run()
    assert chain.undo() == []
    assert fakes.calls() == ["ADD one", "ADD two", "DEL two", "DEL one"]
    assert [line["config"].get("prevResult") for line in fakes.lines()[2:]] == [RESULT, RESULT]
    chain.expect_nothing()


def test_an_incompatible_version_says_which_would_do(fakes: Plugins, init: int) -> None:
    fakes.script("one", speaking("0.4.0") + '\necho \'{"code": 1, "msg": "incompatible"}\'; exit 1')
    with pytest.raises(Error, match="incompatible") as caught:
        Chain(fakes, "one", pid=init).run()
    assert caught.value.hint.startswith("tnet/one supports 0.4.0")


def test_a_del_that_fails_keeps_what_the_next_one_needs(fakes: Plugins, init: int) -> None:
    fakes.script("one")
    fakes.script("two", '[ $CNI_COMMAND = ADD ] || { echo \'{"code": 999, "msg": "locked"}\'; exit 1; }')
    chain = Chain(fakes, "one", "two", pid=init)
    chain.run()
    (failure,) = chain.undo()
    assert failure.message == (
        "CNI DEL tnet/two: locked (code 999); "
        "what may be left: eth0 on network tnet, 10.1.2.3/24, port 80/tcp of the host"
    )
    assert "delete it again" in failure.hint
    assert fakes.calls()[2:] == ["DEL two", "DEL one"]  # one failure keeps no other plug-in from its work
    fakes.script("two")
    assert namespace.path(fakes.context(), Record.load(fakes.context()).namespace)  # type: ignore[union-attr]
    assert chain.undo() == []
    assert set(fakes.calls()[4:]) == {"DEL two"}
    chain.expect_nothing()


def test_a_plugin_that_was_removed(fakes: Plugins, init: int) -> None:
    fakes.script("one")
    chain = Chain(fakes, "one", pid=init)
    chain.run()
    (fakes.bin / "one").unlink()
    (failure,) = chain.undo()
    assert "the CNI plug-in one is not in" in failure.message
    assert "eth0 on network tnet" in failure.message
    assert "containernetworking-plugins" in failure.hint
    fakes.script("one")
    assert chain.undo() == []
    chain.expect_nothing()


def test_an_administrator_can_give_it_up(fakes: Plugins, init: int) -> None:
    fakes.script("one", "[ $CNI_COMMAND = ADD ] || exit 1")
    chain = Chain(fakes, "one", pid=init)
    chain.run()
    assert chain.undo()
    (fakes.state / layout.CNI_NOTE).unlink()
    assert chain.undo() == []
    chain.expect_nothing()


def test_somebody_has_unmounted_the_namespace(fakes: Plugins, init: int) -> None:
    """DEL is asked without a namespace, as the specification has it for one that is gone."""
    fakes.script("one")
    chain = Chain(fakes, "one", pid=init)
    chain.run()
    subprocess.run(["umount", str(fakes.state / layout.CNI_NAMESPACE)], check=True)
    assert chain.undo() == []
    assert "CNI_NETNS=\n" in (fakes.path / "log.env.DEL").read_text()
    chain.expect_nothing()


def test_another_namespace_in_its_place(fakes: Plugins, init: int) -> None:
    fakes.script("one")
    chain = Chain(fakes, "one", pid=init)
    chain.run()
    place = str(fakes.state / layout.CNI_NAMESPACE)
    subprocess.run(["umount", place], check=True)
    subprocess.run(["mount", "--bind", "/proc/self/ns/net", place], check=True)
    assert chain.undo() == []
    assert "CNI_NETNS=\n" in (fakes.path / "log.env.DEL").read_text()
    chain.expect_nothing()


def test_a_container_without_a_namespace_of_its_own(fakes: Plugins) -> None:
    chain = Chain(fakes, "one", pid=os.getpid())
    with pytest.raises(Error, match="the container has no network namespace of its own"):
        chain.run()
    assert chain.undo() == []
    chain.expect_nothing()


def test_a_kill_at_every_line_of_the_note(fakes: Plugins, init: int) -> None:
    """Whatever of the note has been written, also half a line: what it tells of is undone, in reverse order."""
    fakes.script("one")
    fakes.script("two")
    chain = Chain(fakes, "one", "two", pid=init)
    chain.run()
    whole = (fakes.state / layout.CNI_NOTE).read_bytes()
    chain.undo()
    ends = [at for at in range(len(whole) + 1) if at == len(whole) or whole[at - 1 : at + 1] == b"\n\n" or at % 97 == 0]
    for end in ends:
        fakes.log.unlink(missing_ok=True)
        (fakes.state / layout.CNI_NOTE).write_bytes(whole[:end])
        assert chain.undo() == []
        begun = [
            kind for at, kind in enumerate(["one", "two"]) if f'"begin","call":[0,{at}]}}\n'.encode() in whole[:end]
        ]
        assert fakes.calls() == [f"DEL {kind}" for kind in reversed(begun)]
        chain.expect_nothing()


def test_of_an_unreadable_state_the_note_alone_undoes(fakes: Plugins, init: int) -> None:
    """`delete --force` goes by the note then: `PinNamespace` is all that it knows of."""
    fakes.script("one")
    fakes.script("two")
    chain = Chain(fakes, "one", "two", pid=init)
    chain.run()
    PinNamespace().undo(fakes.context())
    assert fakes.calls()[2:] == ["DEL two", "DEL one"]
    chain.expect_nothing()


def test_a_note_of_another_version(fakes: Plugins, init: int) -> None:
    fakes.script("one")
    chain = Chain(fakes, "one", pid=init)
    chain.run()
    note = fakes.state / layout.CNI_NOTE
    whole = note.read_text()
    note.write_text(whole.replace('"form":1', '"form":2'))
    failures = chain.undo()
    assert failures
    assert "not a note of this version" in failures[0].message
    note.write_text(whole)
    assert chain.undo() == []


def test_what_a_killed_call_has_left_running_is_waited_for(fakes: Plugins, init: int) -> None:
    """A child of a plug-in that was killed may be in the middle of making what DEL is to remove."""
    fakes.script("one", f"[ $CNI_COMMAND = DEL ] || {{ (sleep 0.5; touch {fakes.path}/made) & kill -9 $$; }}")
    chain = Chain(fakes, "one", pid=init)
    header = fakes.header("one")
    context = fakes.context()
    context.pid = init
    chain.steps[0].run(context)
    chain.steps[1].run(context)
    note = context.own(Done).noted()
    lock = note.lock()
    note.add({"event": record.BEGIN, "call": (0, 0)})
    with pytest.raises(Error, match="signal: killed"):  # as if this process had been killed with it: nothing is noted
        calls.Call(header, header["attachments"][0], 0, "/ns", lock).add(None)
    os.close(lock)
    fakes.script("one", f"[ -e {fakes.path}/made ] || exit 9")
    undoing.delete(fakes.context(), 0, 0)
    assert chain.undo() == []


def test_a_full_disk(fakes: Plugins, init: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be noted is not begun."""
    fakes.script("one")
    chain = Chain(fakes, "one", pid=init)
    context = fakes.context()
    context.pid = init
    chain.steps[0].run(context)
    chain.steps[1].run(context)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError):
        patch.setattr(posix, "write_all", full)
        chain.steps[2].run(context)
    assert fakes.calls() == []
    assert chain.undo() == []
    chain.expect_nothing()


def test_the_note_is_readable_by_root_alone(fakes: Plugins, init: int) -> None:
    fakes.script("one")
    chain = Chain(fakes, "one", pid=init)
    chain.run()
    assert (fakes.state / layout.CNI_NOTE).stat().st_mode & 0o777 == 0o600
    assert jsonio.loads((fakes.state / layout.CNI_NOTE).read_bytes().split(b"\n")[0])
    chain.undo()


REFUSING = 'echo \'{"code": 999, "msg": "failed to load netconf"}\'; exit 1'


def test_a_plugin_that_refuses_to_work_at_all(fakes: Plugins, init: int) -> None:
    """DEL with the answer of ADD: with that configuration there will never be another, and nothing was made."""
    fakes.script("one")
    fakes.script("two", REFUSING)
    chain = Chain(fakes, "one", "two", pid=init)
    with pytest.raises(Error, match="failed to load netconf"):
        chain.run()
    assert chain.undo() == []
    assert fakes.calls() == ["ADD one", "ADD two", "DEL two", "DEL one"]
    chain.expect_nothing()


@pytest.mark.parametrize("cut", [True, False])
def test_an_add_that_was_cut_short_is_undone_in_two(fakes: Plugins, init: int, cut: bool) -> None:
    """DEL complains of what ADD had not come to, and not again. Of an ADD that was whole, a complaint counts."""
    fakes.script("one", "kill -9 $$" if cut else "")
    chain = Chain(fakes, "one", pid=init)
    with pytest.raises(Error) if cut else contextlib.nullcontext():
        chain.run()
    again = fakes.path / "again"
    fakes.script("one", f'[ -e {again} ] && exit 0; touch {again}; echo \'{{"code": 999, "msg": "no chain"}}\'; exit 1')
    failures = chain.undo()
    assert ["no chain" in str(each.message) for each in failures] == ([] if cut else [True])
    assert fakes.calls() == ["ADD one", "DEL one", *(["DEL one"] if cut else [])]
    assert chain.undo() == []
    chain.expect_nothing()


@pytest.mark.parametrize("text", ["kill -9 $$", "sleep 1000"])
def test_a_plugin_that_does_not_answer_has_not_refused(fakes: Plugins, init: int, text: str) -> None:
    fakes.script("one", text)
    chain = Chain(fakes, "one", pid=init)
    chain.steps[0].timeout = 3
    with pytest.raises(Error):
        chain.run()
    assert len(chain.undo()) == 1
    fakes.script("one")
    assert chain.undo() == []
    chain.expect_nothing()


def test_a_del_that_was_cut_short_finds_a_link_again(fakes: Plugins, init: int) -> None:
    """It has taken away the link, and not what it looks up there: so there is one again, for each address."""
    two = {**RESULT, "ips": [*RESULT["ips"], {"address": "fd00::3/64", "interface": 1}]}
    fakes.script("one", result=two)
    chain = Chain(fakes, "one", pid=init)
    context = chain.run()
    context.own(Done).noted().add({"event": record.DELETE, "call": (0, 0)})  # and killed here
    found = f'nsenter --net="$CNI_NETNS" ip -o addr show dev eth0 >> {fakes.path}/found 2>&1'
    fakes.script("one", f'{found}\nnsenter --net="$CNI_NETNS" ip link delete eth0 2>/dev/null && exit 1; exit 0')
    assert chain.undo() == []
    text = (fakes.path / "found").read_text()
    assert [word for word in text.split() if word in ("10.1.2.3/24", "fd00::3/64")] == ["10.1.2.3/24", "fd00::3/64"]
    assert fakes.calls() == ["ADD one", "DEL one", "DEL one", "DEL one"]
    chain.expect_nothing()
