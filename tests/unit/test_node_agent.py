"""The installer's loop, and what it tells the API server and the probe of its pod."""

from __future__ import annotations

import fcntl
import http.client
import os
import select
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import pytest

from gosudacon.base.errors import Error
from gosudacon.node import agent, check, pass_, places
from gosudacon.node.__main__ import main
from gosudacon.node.agent import Agent, Settings
from gosudacon.node.cluster import Cluster
from gosudacon.node.install import Outcome
from tests.clients.node import ApiServer
from tests.support.needs import needs
from tests.support.timing import eventually

VARIABLES = {"NODE_NAME": "node-1", "KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": "6443"}
RULE = 'plugins = ["policy"]\n[[stage.policy.rule]]\nname = "n"\nmessage = "no"\n'
pytestmark = needs("program:openssl")


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiServer]:
    """One whose node has containerd 1.7."""
    server = ApiServer(tmp_path / "account", "node-1", "containerd://1.7.2")
    yield server
    server.close()


@pytest.fixture
def settings(api: ApiServer, tmp_path: Path) -> Settings:
    """Of a pod on its node."""
    image = tmp_path / "versions/1"
    image.mkdir(parents=True)
    return Settings(
        "node-1",
        "127.0.0.1",
        str(api.port),
        fleet=tmp_path / "config.toml",
        status=tmp_path / "status",
        account=api.account,
        image=image,
    )


@pytest.fixture
def outcomes(monkeypatch: pytest.MonkeyPatch) -> list[Outcome]:
    """What the passes come to, one after the other."""
    found: list[Outcome] = []
    monkeypatch.setattr(pass_, "run", lambda _root, _work: found.pop(0))
    return found


def test_a_node_is_labelled_when_it_is_ready(api: ApiServer, settings: Settings, outcomes: list[Outcome]) -> None:
    loop = Agent(settings, removes=False)
    assert agent.is_ready(settings.status) == "the first pass is not over"
    outcomes += [Outcome(trouble=["what is wrong"]), Outcome(come=True), Outcome(come=True), Outcome(trouble=["late"])]
    loop.step()
    assert api.metadata == {
        "labels": {},
        "annotations": {places.STATE: "version 1", places.TROUBLE: "what is wrong"},
    }
    assert agent.is_ready(settings.status) == "error: what is wrong"
    loop.step()
    assert api.metadata == {"labels": {places.LABEL: places.READY}, "annotations": {places.STATE: "version 1"}}
    assert agent.is_ready(settings.status) == ""
    told = len(api.patches)
    loop.step()
    assert len(api.patches) == told  # nothing new
    loop.step()
    assert api.metadata["labels"] == {places.LABEL: places.READY}  # the handler is still there
    assert api.metadata["annotations"][places.TROUBLE] == "late"


def test_a_node_that_is_left(
    api: ApiServer, settings: Settings, outcomes: list[Outcome], capsys: pytest.CaptureFixture[str]
) -> None:
    """No new pods from the first moment on; each thing is said once."""
    api.metadata["labels"] = {places.LABEL: places.READY, "other": "stays"}
    loop = Agent(settings, removes=True)
    outcomes += [Outcome(waits=["container abc"]), Outcome(waits=["container abc"]), Outcome(done=["removed it"])]
    loop.step()
    assert api.patches[0]["metadata"] == {"labels": {places.LABEL: None}, "annotations": {}}
    assert api.metadata["annotations"] == {places.STATE: "is removed when these end: container abc"}
    loop.step()
    assert agent.is_ready(settings.status) == "still there: container abc"
    loop.step()
    assert api.metadata == {"labels": {"other": "stays"}, "annotations": {}}
    assert capsys.readouterr().err == "still there: container abc\nremoved it\n"


def test_nothing_is_done_before_the_engine_is_known(
    api: ApiServer, settings: Settings, outcomes: list[Outcome], capsys: pytest.CaptureFixture[str]
) -> None:
    (api.account / "token").write_text("another")
    assert Agent(settings, removes=False).step().trouble
    assert (
        "the API server refuses to label the node: 403 Forbidden; is the ClusterRoleBinding" in capsys.readouterr().err
    )


def test_an_engine_that_is_not_known_is_told(api: ApiServer, settings: Settings) -> None:
    api.engine = "docker://27.0.1"
    Agent(settings, removes=False).step()
    assert "the node's engine is 'docker://27.0.1'" in api.metadata["annotations"][places.TROUBLE]
    assert api.metadata["labels"] == {}


def test_an_api_server_that_does_not_answer(settings: Settings, api: ApiServer, tmp_path: Path) -> None:
    with pytest.raises(Error, match=r"the API server does not answer: .*refused"):
        Cluster("127.0.0.1", "1", "node-1", api.account).note({}, {})
    (api.account / "ca.crt").write_bytes((api.account / "other.crt").read_bytes())
    with pytest.raises(Error, match=r"the API server does not answer: .*CERTIFICATE_VERIFY_FAILED"):
        Cluster("127.0.0.1", str(api.port), "node-1", api.account).note({}, {})
    with pytest.raises(Error, match="the API server does not answer"):
        Cluster("::1", "1", "node-1", api.account).note({}, {})
    with pytest.raises(Error, match="No such file"):
        Cluster("127.0.0.1", str(api.port), "node-1", tmp_path / "none").note({}, {})


def test_settings() -> None:
    found = Settings.of({**VARIABLES, "GOSUDACON_INTERVAL": "2.5", "GOSUDACON_UNIT": "k3s.service"})
    assert (found.node, found.host, found.port) == ("node-1", "127.0.0.1", "6443")
    assert (found.interval, found.unit, found.containerd_config) == (2.5, "k3s.service", "")
    with pytest.raises(Error, match="NODE_NAME is not set"):
        Settings.of({})


@pytest.mark.parametrize("interval", ["soon", "0", "-1", "nan", "inf", "1e9"])
def test_an_interval_that_cannot_be_waited_for(interval: str) -> None:
    with pytest.raises(Error, match=f"GOSUDACON_INTERVAL is '{interval}', not a number of seconds from"):
        Settings.of({**VARIABLES, "GOSUDACON_INTERVAL": interval})


def test_trouble_of_the_pod_itself_is_told_and_tried_again(
    api: ApiServer, settings: Settings, outcomes: list[Outcome], capsys: pytest.CaptureFixture[str]
) -> None:
    settings.fleet.mkdir()
    loop = Agent(settings, removes=False)
    assert loop.step().trouble == [f"{settings.fleet}: is a directory"]
    settings.fleet.rmdir()
    settings.image.rmdir()
    assert loop.step().trouble == [f"{settings.image}: no such file or directory"]
    settings.image.mkdir()
    outcomes.append(Outcome(come=True))
    assert loop.step() == Outcome(come=True)
    settings.status.unlink()
    settings.status.mkdir()  # instead of a full volume
    outcomes.append(Outcome(come=True))
    assert loop.step() == Outcome(come=True)
    assert "error: " in capsys.readouterr().err


def test_the_probe_never_finds_half_a_status(
    api: ApiServer, settings: Settings, outcomes: list[Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty file says "ready", so the file is replaced, not rewritten. A surrogate in a name is written, too."""
    settings.status.write_text("error: former")
    with settings.status.open() as open_before:
        outcomes.append(Outcome(trouble=["container \udc80"]))
        Agent(settings, removes=False).step()
        assert open_before.read() == "error: former"
    assert agent.is_ready(settings.status) == "error: container \\udc80"
    assert [path.name for path in settings.status.parent.glob("*status*")] == ["status"]


def test_the_status_of_a_container_that_ended_does_not_count(
    api: ApiServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The volume outlives a container of the pod."""
    settings.status.write_text("")
    found: list[str] = []
    monkeypatch.setattr(Agent, "step", lambda _self: found.append(agent.is_ready(settings.status)))
    monkeypatch.setattr("signal.pthread_sigmask", lambda *_: None)
    monkeypatch.setattr("signal.sigtimedwait", lambda *_: signal.SIGTERM)
    Agent(settings, removes=False).run()
    assert found == ["the first pass is not over"]


def test_the_node_is_kept_while_the_api_server_does_not_answer(
    api: ApiServer, settings: Settings, outcomes: list[Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = Agent(settings, removes=False)
    outcomes += [Outcome(come=True), Outcome(come=True, done=["mended"]), Outcome(come=True)]
    loop.step()
    monkeypatch.setattr(agent, "_AGAIN", -1.0)
    (api.account / "token").rename(api.account / "none")
    outcome = loop.step()
    assert outcome.done == ["mended"]
    assert "the API server does not answer" in outcome.trouble[0]
    (api.account / "none").rename(api.account / "token")
    assert loop.step() == Outcome(come=True)


def test_an_answer_that_is_cut_off(settings: Settings, api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(_file: object) -> None:
        raise http.client.IncompleteRead(b"{")

    monkeypatch.setattr("json.load", cut)
    with pytest.raises(Error, match="the API server does not answer: IncompleteRead"):
        Cluster("127.0.0.1", str(api.port), "node-1", api.account).note({}, {})


@needs("root")
def test_a_pass_that_is_killed_while_it_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(_values: object, file: IO[str]) -> None:
        file.write('{"come": tr')
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr("json.dump", half)
    assert pass_.run(str(tmp_path), Outcome).trouble == ["the pass was ended (exit status -9)"]


@needs("root")
def test_a_pass_has_the_nodes_root(tmp_path: Path) -> None:
    (tmp_path / "marker").write_text("")

    def work() -> Outcome:
        return Outcome(come=os.path.exists("/marker") and os.getcwd() == "/", done=os.listdir("/"))

    assert pass_.run(str(tmp_path), work) == Outcome(come=True, done=["marker"])
    assert not os.path.exists("/marker")


@needs("root")
@pytest.mark.parametrize(
    ("error", "text"),
    [
        (Error("what", hint="do that"), "what; do that"),
        (PermissionError(13, "Permission denied", "/x"), "/x: permission denied"),
        (KeyError("k"), "KeyError: 'k'"),
    ],
)
def test_a_pass_that_fails(tmp_path: Path, error: Exception, text: str) -> None:
    def work() -> Outcome:
        raise error

    assert pass_.run(str(tmp_path), work) == Outcome(trouble=[text])
    assert pass_.run(str(tmp_path), lambda: os._exit(3)).trouble == ["the pass was ended (exit status 3)"]
    assert "none: no such file or directory" in pass_.run(str(tmp_path / "none"), work).trouble[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ""),
        (f'{RULE}deny-host-namespaces = ["pid"]\n', ""),
        (f'{RULE}require = ["seccomp"]\n', ""),  # which the samples break
        ("plugins = ", "Invalid value"),
        ('plugins = ["nonsense"]\n', "plugin 'nonsense' is enabled but not installed; no entry point"),
        ('plugins = ["policy"]\n', "rule must be a list of tables"),
        ('plugins = ["network"]\n[stage.network]\nsubnets = ["nonsense"]\n', "is not a subnet"),
        ("nonsense = 1\n", "nonsense"),
    ],
)
def test_what_is_wrong_with_a_configuration(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    path.chmod(0o644)
    found = check.problem(str(path))
    assert message in found
    assert bool(message) == bool(found)


def test_its_command_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for words, status in ((["--help"], None), ([], 2), (["nonsense"], 2)):
        monkeypatch.setattr("sys.argv", ["gosudacon-node", *words])
        if status is None:
            main()
        else:
            with pytest.raises(SystemExit) as caught:
                main()
            assert caught.value.code == status
        captured = capsys.readouterr()
        assert "gosudacon-node install" in (captured.err if status else captured.out)
    monkeypatch.setattr("sys.argv", ["gosudacon-node", "install"])
    monkeypatch.delenv("NODE_NAME", raising=False)
    with pytest.raises(SystemExit, match="NODE_NAME is not set; this program runs in the pods"):
        main()
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(Agent, "run", lambda agent: os.open("/proc/none", os.O_RDONLY))
    with pytest.raises(SystemExit, match="gosudacon-node: /proc/none: no such file or directory"):
        main()


@needs("root")
def test_passes_of_two_pods_wait_for_each_other(tmp_path: Path) -> None:
    lock = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    reader, writer = os.pipe()

    def work() -> Outcome:
        os.write(writer, b"x")
        return Outcome(come=True)

    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(pass_.run, str(tmp_path), work)
        try:
            eventually(lambda: _waits(tmp_path.stat().st_ino), 10, "the wait")
            assert not select.select([reader], [], [], 0)[0]
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)  # the child has the descriptor, too
        assert result.result(10) == Outcome(come=True)
    for each in (lock, reader, writer):
        os.close(each)


def _waits(inode: int) -> bool:
    """Whether a process waits for a lock of this file: proc_locks(5)."""
    lines = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return any(words[1] == "->" and words[-3].endswith(f":{inode}") for words in lines)


def test_a_pod_that_is_told_to_end_tells_nothing(
    api: ApiServer, settings: Settings, outcomes: list[Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pod of the other DaemonSet may have taken the label away meanwhile."""
    monkeypatch.setattr("signal.sigpending", lambda: {signal.SIGTERM})
    outcomes.append(Outcome(come=True))
    Agent(settings, removes=False).step()
    assert api.metadata == {"labels": {}, "annotations": {}}
