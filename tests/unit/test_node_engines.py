"""What the installer writes into the files of engines, and that it takes it out to the byte."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from gosudacon.base.errors import Error
from gosudacon.node import engines, places, toml_edit
from gosudacon.node.files import Node, Record

MAIN, OWN = "/etc/containerd/config.toml", "/etc/containerd/conf.d/gosudacon.toml"
CRIO = "/etc/crio/crio.conf.d/50-gosudacon.conf"
SHIM = f"{places.PREFIX}/current/bin/containerd-shim-gosudacon-v1"
OLD = "io.containerd.grpc.v1.cri"
NEW = "io.containerd.cri.v1.runtime"
ONE = engines.of("containerd://1.7.24")
TWO = engines.of("containerd://2.1.3")
DEBIAN = """\
version = 2

[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    [plugins."io.containerd.grpc.v1.cri".cni]
      bin_dir = "/usr/lib/cni"
"""
WITH_RUNTIMES = """\
version = 2 # a comment
[plugins.'io.containerd.grpc.v1.cri'.containerd]
  default_runtime_name = 'runc'
  [plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.runc]
    runtime_type = 'io.containerd.runc.v2'
    [plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.runc.options]
      SystemdCgroup = true"""  # no newline


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """One without files except our own directory."""
    made = Node(str(tmp_path))
    made.prefix.mkdir(parents=True)
    return made


def write(node: Node, name: str, text: str) -> None:
    """A file of the node's."""
    node.path(name).parent.mkdir(parents=True, exist_ok=True)
    node.path(name).write_text(text)


def runtimes(text: str | None, plugin: str) -> dict[str, dict[str, object]]:
    """The runtimes that a file of containerd's names."""
    found: dict[str, dict[str, object]] = tomllib.loads(text or "")["plugins"][plugin]["containerd"]["runtimes"]
    return found


@pytest.mark.parametrize("text", [DEBIAN, WITH_RUNTIMES, 'version = 2\nimports = ["/etc/containerd/conf.d/*.toml"]\n'])
def test_containerd_1_gets_a_block_in_its_own_file(node: Node, text: str) -> None:
    """A file that it imports would take the place of all tables of the plugin."""
    write(node, MAIN, text)
    texts = ONE.wanted(node)
    assert texts.keys() == {MAIN}
    found = runtimes(texts[MAIN], OLD)
    assert found["gosudacon"] == {"runtime_type": SHIM}
    assert found["runc"]["runtime_type"] == "io.containerd.runc.v2"
    assert ("options" in found["runc"]) == ("SystemdCgroup" in text)
    assert str(texts[MAIN]).startswith(text)
    write(node, MAIN, str(texts[MAIN]))
    assert ONE.wanted(node) == texts
    assert ONE.former(node, []) == {MAIN: text, OWN: None}


def test_containerd_1_without_a_version(node: Node) -> None:
    write(node, MAIN, '[plugins.cri]\nsandbox_image = "x"\n')
    assert runtimes(ONE.wanted(node)[MAIN], "cri").keys() == {"runc", "gosudacon"}


@pytest.mark.parametrize(
    ("engine", "version", "plugin"), [(ONE, 2, OLD), (TWO, 3, NEW)], ids=["containerd 1", "containerd 2"]
)
def test_containerd_without_a_file(node: Node, engine: engines.Engine, version: int, plugin: str) -> None:
    texts = engine.wanted(node)
    assert tomllib.loads(str(texts[MAIN]))["version"] == version
    found = runtimes(texts[OWN if version == 3 else MAIN], plugin)
    assert found["gosudacon"] == {"runtime_type": SHIM}
    record = Record(node)
    record.put(texts)
    assert engine.wanted(node) == texts
    record.put(engine.former(node, record.files))
    assert not node.path("/etc").exists()


@pytest.mark.parametrize(("engine", "version"), [(ONE, 2), (TWO, 3)], ids=["containerd 1", "containerd 2"])
def test_a_file_of_comments_gets_its_version(node: Node, engine: engines.Engine, version: int) -> None:
    """Without one, containerd takes it for version 1, in which the plugin has another name."""
    text = "# disabled_plugins = []\n"
    write(node, MAIN, text)
    texts = engine.wanted(node)
    assert tomllib.loads(str(texts[MAIN]))["version"] == version
    assert text in str(texts[MAIN])
    for name, content in texts.items():
        write(node, name, str(content))
    assert engine.wanted(node) == texts
    assert engine.former(node, [])[MAIN] == text


def test_containerd_2_gets_a_file_of_its_own(node: Node) -> None:
    text = f"version = 3\n[plugins.'{NEW}'.cni]\nconf_dir = '/x'\n"
    write(node, MAIN, text)
    texts = TWO.wanted(node)
    assert tomllib.loads(str(texts[MAIN])) == {**tomllib.loads(text), "imports": ["/etc/containerd/conf.d/*.toml"]}
    assert tomllib.loads(str(texts[OWN]))["version"] == 3
    assert runtimes(texts[OWN], NEW) == {"gosudacon": {"runtime_type": SHIM}}
    for name, content in texts.items():
        write(node, name, str(content))
    assert TWO.former(node, []) == {MAIN: text, OWN: None}


@pytest.mark.parametrize("pattern", ["/etc/containerd/conf.d/*.toml", "conf.d/*.toml"])
def test_containerd_2_that_imports_a_folder(node: Node, pattern: str) -> None:
    text = f'version = 3\nimports = ["/x.toml", "{pattern}"]\n'
    write(node, MAIN, text)
    assert TWO.wanted(node)[MAIN] == text
    assert runtimes(TWO.wanted(node)[OWN], NEW).keys() == {"gosudacon"}


@pytest.mark.parametrize(("version", "plugin"), [(2, OLD), (3, NEW), (4, NEW)])
def test_containerd_2_that_imports_other_files_gets_a_block(node: Node, version: int, plugin: str) -> None:
    text = f"version = {version}\nimports = ['/etc/containerd/more.toml']\n"
    write(node, MAIN, text)
    texts = TWO.wanted(node)
    assert texts.keys() == {MAIN}
    assert runtimes(texts[MAIN], plugin)["gosudacon"] == {"runtime_type": SHIM}


def test_a_link_is_followed_and_stays(node: Node) -> None:
    write(node, "/etc/other/config.toml", DEBIAN)
    node.path("/etc/containerd").mkdir()
    node.path(MAIN).symlink_to("../other/config.toml")
    Record(node).put(ONE.wanted(node))
    assert node.path(MAIN).is_symlink()
    assert "gosudacon" in node.path("/etc/other/config.toml").read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("version = ", "cannot be read: Invalid value"),
        ("version = 9\n", "is of version 9; known are 1, 2, 3, 4"),
        ('version = 2\ndisabled_plugins = ["cri"]\n', "disables the plugin that a kubelet needs"),
        (f"version = 2\n[plugins.'{OLD}'.containerd.runtimes.gosudacon]\n", "has a runtime gosudacon already"),
        (f"version = 2\n[plugins]\n'{OLD}' = {{}}\n", "cannot add to /etc/containerd/config.toml"),
    ],
)
def test_what_is_refused(node: Node, text: str, message: str) -> None:
    write(node, MAIN, text)
    with pytest.raises(Error, match=message) as caught:
        ONE.wanted(node)
    assert MAIN in caught.value.message


def test_bytes_that_are_not_text(node: Node) -> None:
    write(node, MAIN, "")
    node.path(MAIN).write_bytes(b"# \xff\n")
    with pytest.raises(Error, match="is not UTF-8 text"):
        ONE.wanted(node)


def test_what_others_have_written_since_stays(node: Node) -> None:
    write(node, MAIN, str(ONE.wanted(node)[MAIN]) + "# mine\n[debug]\nlevel = 'info'\n")
    assert ONE.former(node, [MAIN])[MAIN] == "# mine\n[debug]\nlevel = 'info'\n"
    write(node, MAIN, str(node.read(MAIN)) + "damaged =\n")
    assert str(ONE.former(node, [])[MAIN]).endswith("damaged =\n")


def test_cri_o(node: Node) -> None:
    engine = engines.of("cri-o://1.31.2")
    assert engine.unit == "crio.service"
    table = tomllib.loads(str(engine.wanted(node)[CRIO]))["crio"]["runtime"]["runtimes"]["gosudacon"]
    program = f"{places.PREFIX}/current/bin/gosudacon"
    assert table == {"runtime_path": program, "runtime_type": "oci", "runtime_root": "/run/gosudacon"}
    assert engine.former(node, []) == {CRIO: None}


def test_which_engine_it_is() -> None:
    assert (ONE.name, ONE.major, ONE.unit, ONE.main) == ("containerd", 1, "containerd.service", MAIN)
    assert engines.of("containerd://2.0.5-k3s2", "k3s.service", "/x.tmpl").main == "/x.tmpl"
    assert engines.of("containerd://v2.0.0").major == 2


@pytest.mark.parametrize("text", ["docker://27.1.1", "containerd://", "", "cri-o://x"])
def test_an_engine_that_is_not_known(text: str) -> None:
    with pytest.raises(Error, match="known are containerd and cri-o"):
        engines.of(text)


@pytest.mark.parametrize("text", ["containerd://1.7.23-k3s2", "containerd://2.0.5+rke2"])
def test_who_writes_the_file_itself(text: str) -> None:
    with pytest.raises(Error, match="writes containerd's configuration itself"):
        engines.of(text)


@pytest.mark.parametrize("text", ["", "a = 1", "a = 1\n", "\n\n", "[x]\r\n"])
def test_a_block_goes_as_it_came(text: str) -> None:
    for put in (toml_edit.first, toml_edit.last):
        for lines in ("", "b = 2\n"):
            assert toml_edit.without(put(text, lines)) == text
    both = toml_edit.last(toml_edit.first(text, "b = 2\n"), "[c]\n")
    assert toml_edit.without(both) == text
