"""The plugin cni against plug-ins that are scripts: what they get, what they may answer, in which order they run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gosudacon.api import Context, Error, Host, Spec
from gosudacon.base import jsonio, layout, posix
from gosudacon.plugins.cni import calls, namespace, record, undoing
from gosudacon.plugins.cni.record import Record
from gosudacon.plugins.cni.steps import AddNetwork, Done, PinNamespace, WriteNote
from tests.support.needs import needs

if TYPE_CHECKING:
    from gosudacon.plugins.cni.record import Attachment, Header

pytestmark = needs("root")

RESULT: dict[str, Any] = {
    "cniVersion": "1.0.0",
    "interfaces": [{"name": "veth1"}, {"name": "eth0", "sandbox": "/x"}],
    "ips": [{"address": "10.1.2.3/24", "interface": 1}],
}
#: Notes each call as a line: command, network, environment and configuration.
LOGGING = """#!/bin/sh
config=$(cat)
printf '%s\\n' "{\\"call\\": \\"$CNI_COMMAND $(basename $0)\\", \\"config\\": $config}" >> LOG
env | grep -v '^_=\\|^PWD=\\|^SHLVL=' | sort > LOG.env.$CNI_COMMAND
ls -l /proc/self/fd/ | sed 's/.*[0-9] //' > LOG.fds
"""


class Plugins:
    """Scripts in the place of plug-ins, and a container's state directory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.chmod(0o755)
        self.bin, self.state, self.log = path / "bin", path / "state", path / "log"
        self.bin.mkdir(mode=0o755)
        self.state.mkdir(mode=0o700)
        self.contexts: list[Context] = []

    def script(self, kind: str, text: str = "", result: object = RESULT) -> None:
        """A plug-in that logs, does ``text``, and answers ADD with ``result``."""
        answer = f"[ $CNI_COMMAND != ADD ] || cat <<'END'\n{json.dumps(result)}\nEND\n"
        path = self.bin / kind
        path.write_text((LOGGING + text + "\n" + answer).replace("LOG", str(self.log)))
        path.chmod(0o755)

    def header(self, *kinds: str, version: str = "1.0.0", versions: list[str] | None = None, **more: Any) -> Header:
        plugins: list[dict[str, object]] = [{"type": kind, **more} for kind in kinds]
        attachment: Attachment = {
            "name": "tnet",
            "file": "/x",
            "interface": "eth0",
            "version": version,
            "versions": versions or [],
            "plugins": plugins,
            "runtime": {"portMappings": [{"hostPort": 80, "containerPort": 8080, "protocol": "tcp"}]},
        }
        return {"id": "gsd1", "bin_dirs": [str(self.bin)], "timeout": 5, "args": {}, "attachments": [attachment]}

    def context(self) -> Context:
        """As a new process gets it."""
        context = Context(Spec({}, "web", "/b"), Host())
        context.state_dir = os.open(self.state, os.O_RDONLY)
        self.contexts.append(context)
        return context

    def call(self, kind: str = "one", **more: Any) -> calls.Call:
        header = self.header(kind, **more)
        return calls.Call(header, header["attachments"][0], 0, "/ns", -1)

    def calls(self) -> list[str]:
        return [line["call"] for line in self.lines()]

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []


@pytest.fixture
def fakes(tmp_path: Path) -> Iterator[Plugins]:
    value = Plugins(tmp_path)
    yield value
    for context in value.contexts:
        os.close(context.state_dir)
    subprocess.run(["umount", "-q", str(value.state / layout.CNI_NAMESPACE)], check=False)


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "_PAUSES", (0.0,) * 5)


# One call.


def test_what_a_plugin_gets(fakes: Plugins, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    fakes.script("one")
    header = fakes.header("one", mtu=1400, capabilities={"portMappings": True, "mac": True})
    header["args"] = {"IgnoreUnknown": "1", "K": "V"}
    assert calls.Call(header, header["attachments"][0], 0, "/ns", -1).add({"cniVersion": "1.0.0", "ips": []}) == RESULT
    (line,) = fakes.lines()
    assert line["config"] == {
        "type": "one",
        "mtu": 1400,
        "capabilities": {"portMappings": True, "mac": True},
        "name": "tnet",
        "cniVersion": "1.0.0",
        "runtimeConfig": {"portMappings": [{"hostPort": 80, "containerPort": 8080, "protocol": "tcp"}]},
        "prevResult": {"cniVersion": "1.0.0", "ips": []},
    }
    assert (fakes.path / "log.env.ADD").read_text().splitlines() == [
        "CNI_ARGS=IgnoreUnknown=1;K=V",
        "CNI_COMMAND=ADD",
        "CNI_CONTAINERID=gsd1",
        "CNI_IFNAME=eth0",
        "CNI_NETNS=/ns",
        f"CNI_PATH={fakes.bin}",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ]


def test_no_descriptor_is_inherited(fakes: Plugins) -> None:
    fakes.script("one")
    with open(fakes.path / "secret", "w") as file:
        os.set_inheritable(file.fileno(), True)
        fakes.call().add(None)
    assert "secret" not in (fakes.path / "log.fds").read_text()


def test_code_11_is_tried_again(fakes: Plugins, no_pauses: None) -> None:
    fakes.script(
        "one", f"n={fakes.path}/n; echo >> $n; [ $(wc -l < $n) -gt 2 ] || {{ echo '{{\"code\": 11}}'; exit 1; }}"
    )
    assert fakes.call().add(None) == RESULT
    assert fakes.calls() == ["ADD one"] * 3


def test_code_11_for_ever(fakes: Plugins, no_pauses: None) -> None:
    fakes.script("one", 'echo \'{"code": 11, "msg": "busy"}\'; exit 1')
    with pytest.raises(calls.PluginError, match=r"^CNI DEL tnet/one: busy \(code 11\)$"):
        fakes.call().delete(None)
    assert len(fakes.calls()) == 6


def test_code_3_is_success_of_del(fakes: Plugins) -> None:
    fakes.script("one", 'echo \'{"code": 3, "msg": "unknown container"}\'; exit 1')
    fakes.call().delete(None)
    with pytest.raises(calls.PluginError, match="unknown container"):
        fakes.call().add(None)


ANSWERS = {
    'echo \'{"code": 999, "msg": "no", "details": "really"}\'; exit 1': "no; really (code 999)",
    "echo of its own >&2; exit 7": "exit status 7: of its own",
    "echo garbage; exit 1": "exit status 1",
    "kill -9 $$": "signal: killed",
    "echo garbage; exit 0": "its result cannot be used: expecting a value at line 1, column 1",
    "exit 0": "its result cannot be used: expecting a value",
    "echo '{\"ips\": [{}]}'; exit 0": "its result cannot be used: None is not an address with a prefix",
    'echo \'{"cniVersion": "9.9.9"}\'; exit 0': "its result cannot be used: cniVersion '9.9.9' is not known",
    "head -c 10485760 /dev/zero; exit 0": "wrote more than 1 MiB",
    "head -c 10485760 /dev/zero >&2; exit 1": "exit status 1",
}


@pytest.mark.parametrize("text", ANSWERS)
def test_answers_that_are_errors(fakes: Plugins, text: str) -> None:
    fakes.script("one", text)
    with pytest.raises(calls.PluginError) as caught:
        fakes.call().add(None)
    assert caught.value.message.startswith(f"CNI ADD tnet/one: {ANSWERS[text]}")


def test_a_result_of_another_version(fakes: Plugins) -> None:
    fakes.script("one", result={**RESULT, "cniVersion": "1.0.0"})
    assert fakes.call(version="0.4.0").add(None)["ips"] == [{"version": "4", **RESULT["ips"][0]}]


def test_one_that_hangs_is_killed_with_what_it_has_started(fakes: Plugins) -> None:
    fakes.script("one", f"sleep 1000 & echo $! > {fakes.path}/pid; wait")
    header = fakes.header("one")
    header["timeout"] = 1
    with pytest.raises(calls.PluginError, match="did not end within 1 seconds and was killed"):
        calls.Call(header, header["attachments"][0], 0, "/ns", -1).add(None)
    await_end(int((fakes.path / "pid").read_text()))


def test_a_daemon_that_holds_the_streams_is_not_waited_for(fakes: Plugins) -> None:
    fakes.script("one", f"sleep 1000 & echo $! > {fakes.path}/pid")
    try:
        assert fakes.call().add(None) == RESULT
    finally:
        os.kill(int((fakes.path / "pid").read_text()), signal.SIGKILL)


def test_a_plugin_that_is_gone(fakes: Plugins) -> None:
    with pytest.raises(Error, match="the CNI plug-in one is not in"):
        fakes.call().delete(None)
    (fakes.bin / "one").write_text("#!/nonexistent/interpreter\n")
    (fakes.bin / "one").chmod(0o755)
    with pytest.raises(Error, match=r"CNI DEL tnet/one: cannot be executed: .*: no such file"):
        fakes.call().delete(None)


@pytest.mark.parametrize(("version", "given"), [("0.3.1", False), ("0.4.0", True), ("1.0.0", True)])
def test_del_gets_the_result_from_version_0_4_on(fakes: Plugins, version: str, given: bool) -> None:
    fakes.script("one")
    fakes.call(version=version).delete({"cniVersion": version})
    assert ("prevResult" in fakes.lines()[0]["config"]) == given


def await_end(pid: int) -> None:
    for _ in range(500):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        if Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
            return
        time.sleep(0.02)
    raise AssertionError(f"{pid} lives")


# Versions.


def speaking(*versions: str) -> str:
    answer = json.dumps({"cniVersion": "1.0.0", "supportedVersions": versions})
    return f"[ $CNI_COMMAND != VERSION ] || {{ echo '{answer}'; exit 0; }}"


def test_of_several_versions_the_highest_that_all_plugins_have(fakes: Plugins) -> None:
    fakes.script("one", speaking("0.4.0", "1.0.0"))
    fakes.script("two", speaking("0.3.1", "0.4.0", "1.0.0", "1.1.0"))
    context = fakes.context()
    WriteNote(**noted(fakes.header("one", "two", version="1.1.0", versions=["1.1.0", "1.0.0", "0.4.0"]))).run(context)
    assert context.own(Done).noted().header["attachments"][0]["version"] == "1.0.0"


def test_no_version_in_common(fakes: Plugins) -> None:
    fakes.script("one", speaking("0.4.0"))
    fakes.script("two", speaking("1.1.0"))
    step = WriteNote(**noted(fakes.header("one", "two", version="1.1.0", versions=["1.1.0", "1.0.0"])))
    with pytest.raises(
        Error, match=r"no version of 1.1.0, 1.0.0 in common: tnet/one supports 0.4.0; tnet/two supports"
    ):
        step.run(fakes.context())


def noted(header: Header) -> dict[str, Any]:
    rest = {key: value for key, value in header.items() if key != "id"}
    return {"container": header["id"], "ports": [], "publishes": -1, **rest}


# The chain and the note.


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


@pytest.mark.parametrize("text", ["kill -9 $$", "sleep 1000"])
def test_a_plugin_that_does_not_answer_has_not_refused(fakes: Plugins, init: int, text: str) -> None:
    fakes.script("one", text)
    chain = Chain(fakes, "one", pid=init)
    chain.steps[0].timeout = 1
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
