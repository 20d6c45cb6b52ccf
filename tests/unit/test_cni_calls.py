"""The plugin cni calls plug-ins that are scripts: what they get, and what they may answer."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from gosudacon.api import Error
from gosudacon.plugins.cni import calls
from gosudacon.plugins.cni.steps import Done, WriteNote
from tests.support import cni_fakes
from tests.support.cni_fakes import RESULT, Plugins, noted, speaking
from tests.support.needs import needs

pytestmark = needs("root")
fakes = cni_fakes.fakes  # the fixture


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
    fakes.script("one")
    (fakes.bin / "one").write_text(f"#!/bin/sh\nsleep 1000 & echo $! > {fakes.path}/pid\nwait\n")
    header = fakes.header("one")
    header["timeout"] = 3
    with pytest.raises(calls.PluginError, match="did not end within 3 seconds and was killed"):
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
