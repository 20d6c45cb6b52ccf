"""The Debian package: the same bytes each time, nothing for lintian to say, and its life on Debian 12 and 13."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gosudacon.pipeline import discovery
from tests.clients.image import write_image
from tests.package.conftest import build
from tests.package.root import Root
from tests.support.bundle import default_config
from tests.support.needs import needs
from tests.support.runtime import CHECKOUT
from tests.support.timing import eventually

NAME, UID = "gtpackage", 4399
IMAGE = "docker.io/gosudacon/busybox:test"
BUILDS = "/usr/lib/gosudacon/lib/gosudacon"
CONTAINERD = """\
version = 2
root = "{base}/root"
state = "{base}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
address = "{base}/s"
[ttrpc]
address = "{base}/t"
"""

pytestmark = [needs("root", "busybox", "program:dpkg-deb"), pytest.mark.slow]


def test_same_bytes(deb: Path, elsewhere: Path, tmp_path: Path) -> None:
    """Whatever the directory, the umask, the time zone and the hash seed."""
    (again,) = build("deb", elsewhere, tmp_path, umask=0o077, seed=7)
    assert again.name == deb.name
    assert again.read_bytes() == deb.read_bytes()


def test_sums_are_of_what_the_administrator_does_not_change(deb: Path) -> None:
    sums = subprocess.run(["dpkg-deb", "-I", deb, "md5sums"], check=True, capture_output=True, text=True).stdout
    assert "  usr/lib/python3/dist-packages/gosudacon/__init__.py\n" in sums
    assert "  etc/" not in sums


def test_a_later_build_is_an_upgrade(deb: Path, newer_deb: Path) -> None:
    versions = [
        subprocess.run(["dpkg-deb", "-f", path, "Version"], check=True, capture_output=True, text=True).stdout.strip()
        for path in (deb, newer_deb)
    ]
    subprocess.run(["dpkg", "--compare-versions", versions[0], "lt", versions[1]], check=True)


def test_configuration(scratch: Path) -> None:
    """It changes nothing as it stands, and what is commented out is a configuration."""
    text = (CHECKOUT / "tools/debian/config.toml").read_text()
    (scratch / "none.toml").write_text("")
    (scratch / "as_it_is.toml").write_text(text)
    (scratch / "all.toml").write_text(re.sub(r"^#(?=\S)", "", text, flags=re.M))
    none, as_it_is, all = (discovery.read(f"{scratch}/{name}.toml", True) for name in ("none", "as_it_is", "all"))
    assert as_it_is == none
    assert {key for key, value in all.items() if not value} == set()


@needs("program:lintian")
def test_lintian_has_nothing_to_say(deb: Path) -> None:
    words = ["lintian", "--fail-on", "error,warning", "--no-cfg", str(deb)]
    result = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C.UTF-8"})
    assert (result.returncode, result.stdout) == (0, ""), result.stderr


@needs("program:containerd", "program:ctr")
def test_life(root: Root, deb: Path, newer_deb: Path, token: str, scratch: Path, busybox_rootfs: Path) -> None:
    """Install, run, upgrade while containers run, follow the interpreter, remove, purge: nothing is left."""
    bundle = Bundle(scratch / "bundle", busybox_rootfs, f"/gosudacon-test/{token}")
    shutil.copy(deb, scratch / "first.deb")
    shutil.copy(newer_deb, scratch / "newer.deb")
    root.call("useradd", "--uid", str(UID), "--create-home", "--shell", "/bin/sh", NAME)
    files, run = root.files(), root.run()
    root.call("dpkg", "-i", scratch / "first.deb")
    assert root.call("dpkg", "--verify", "gosudacon").stdout == ""
    check_commands(root)
    assert root.call("gosudacon", "run", "--bundle", bundle.echo(), "c1").stdout == "hello\n"
    check_ordinary_user(root, bundle.of_a_user(root))
    with containerd(root, scratch, token, busybox_rootfs) as client:
        assert client.run("c2").returncode == 7
        root.call("gosudacon", "run", "--detach", "--bundle", bundle.sleep(), "c3", output=False)
        client.run("c4", detached=True)
        before = builds(root)
        root.call("dpkg", "-i", scratch / "newer.deb")
        assert builds(root) > before
        assert root.call("gosudacon", "exec", "c3", "echo", "lives").stdout == "lives\n"
        assert client.ctr("task", "exec", "--exec-id", "e", "c4", "sh", "-c", "exit 5", check=False).returncode == 5
        assert client.run("c5").returncode == 7
        client.ctr("task", "delete", "--force", "c4")
        client.ctr("container", "delete", "c4")
    before = builds(root)
    root.call("dpkg-trigger", "--by-package=python3", "/usr/bin/python3")
    root.call("dpkg", "--triggers-only", "gosudacon")
    assert builds(root) - before, "a new build for a new interpreter"
    result = root.call("dpkg", "--remove", "gosudacon")
    assert "containers still run: c3" in result.stdout + result.stderr
    assert (root.path / "etc/gosudacon/config.toml").exists()
    root.call("dpkg", "-i", scratch / "newer.deb")
    root.call("gosudacon", "delete", "--force", "c3")
    root.call("dpkg", "--purge", "gosudacon")
    assert root.files() == files
    assert {path for path in root.run() if not path.startswith("/run/containerd")} == run


def check_commands(root: Root) -> None:
    """The commands are there, with their pages and completions."""
    assert root.call("gosudacon", "--version").stdout.startswith("gosudacon version ")
    assert "containerd-shim-gosudacon-v1" in root.call("containerd-shim-gosudacon-v1", "-v").stdout
    assert root.call("gosudacon", "plugin", "list").returncode == 0
    refused = root.call("gosudacon", "install", "--prefix", "/usr", check=False)
    assert "exists and is not gosudacon's" in refused.stderr
    listed = root.call("dpkg", "-L", "gosudacon").stdout.split()
    places = ("bash-completion/completions/gosudacon", "zsh/vendor-completions/_gosudacon")
    more = ("fish/vendor_completions.d/gosudacon.fish", "man/man8/containerd-shim-gosudacon-v1.8.gz")
    for path in (*(f"/usr/share/{place}" for place in (*places, *more)), "/etc/gosudacon/config.toml"):
        assert path in listed
    assert (
        root.call("test", "-x", "/usr/bin/gosudacon", "-a", "-e", "/usr/share/man/man8/gosudacon.8.gz").returncode == 0
    )


def check_ordinary_user(root: Root, bundle: Path) -> None:
    """A user without a session: after `su`, which passes on the directory of root's session, as after `su -`."""
    state = Path(f"/tmp/gosudacon-{UID}")
    root.call("mkdir", "--mode=700", "-p", "/run/user/0")
    try:
        passed_on = ["env", "XDG_RUNTIME_DIR=/run/user/0", "su", NAME, "-c"]
        root.call(*passed_on, f"gosudacon run --detach --bundle {bundle} u", output=False)
        assert (state / "gosudacon/u/state.json").exists()
        assert (state.stat().st_uid, state.stat().st_mode & 0o777) == (UID, 0o700)
        assert root.call("su", "-", NAME, "-c", "gosudacon exec u id -u").stdout == "0\n"
        root.call(*passed_on, "gosudacon delete --force u")
        assert root.call("su", "-", NAME, "-c", "gosudacon list -q").stdout == ""
    finally:
        root.call("rm", "-rf", state, "/run/user")


def builds(root: Root) -> set[str]:
    """The builds that there are in the root."""
    return set(os.listdir(f"{root.path}{BUILDS}"))


class Bundle:
    """A bundle whose process is another one each time."""

    def __init__(self, path: Path, rootfs: Path, cgroup: str) -> None:
        path.mkdir()
        (path / "rootfs").symlink_to(rootfs)
        self._path = path
        self._rootfs = rootfs
        self._cgroup = cgroup

    def echo(self) -> Path:
        """The bundle, to print ``hello``."""
        return self._with(["echo", "hello"], "echo")

    def sleep(self) -> Path:
        """The bundle, to run on."""
        return self._with(["sleep", "1000"], "sleep")

    def of_a_user(self, root: Root) -> Path:
        """A bundle as `spec --rootless` makes it, to run on."""
        path = self._path.with_name("of-a-user")
        path.mkdir(mode=0o777)
        path.chmod(0o777)
        root.call("su", NAME, "-c", f"cd {path} && gosudacon spec --rootless")
        config = json.loads((path / "config.json").read_text())
        config["root"]["path"] = str(self._rootfs)
        config["process"] |= {"terminal": False, "args": ["sleep", "1000"]}
        (path / "config.json").write_text(json.dumps(config))
        return path

    def _with(self, args: list[str], name: str) -> Path:
        config = default_config(args, f"{self._cgroup}/{name}")
        config["root"] = {"path": str(self._rootfs), "readonly": True}
        (self._path / "config.json").write_text(json.dumps(config))
        return self._path


class Client:
    """ctr in a root, with gosudacon's shim; `IMAGE` is there."""

    def __init__(self, root: Root, base: Path, namespace: str) -> None:
        self._root = root
        self._words = [f"{base}/ctr", "--address", f"{base}/s", "--namespace", namespace]
        self._fifos = f"{base}/fifo"

    def ctr(self, *words: str | Path, check: bool = True, output: bool = True) -> subprocess.CompletedProcess[str]:
        """Run ctr to its end."""
        return self._root.call(*self._words, *words, check=check, output=output)

    def run(self, container: str, detached: bool = False) -> subprocess.CompletedProcess[str]:
        """A container that exits with 7, or one that runs on."""
        how = ["--runtime", "io.containerd.gosudacon.v1", "--snapshotter", "native", "--fifo-dir", self._fifos]
        script = "sleep 1000" if detached else "exit 7"
        what = ["--detach" if detached else "--rm", IMAGE, container, "sh", "-c", script]
        return self.ctr("run", *how, *what, check=detached, output=not detached)


@contextmanager
def containerd(root: Root, scratch: Path, token: str, rootfs: Path) -> Iterator[Client]:
    """This machine's containerd in the root."""
    base = scratch / "containerd"
    base.mkdir()
    for name in ("containerd", "ctr"):
        shutil.copy(shutil.which(name) or name, base / name)
    (base / "config.toml").write_text(CONTAINERD.format(base=base))
    write_image(base / "image.tar", rootfs, IMAGE)
    client = Client(root, base, token)
    script = f"{base}/containerd --config {base}/config.toml >{base}/log 2>&1 & echo $!"
    daemon = root.call("sh", "-c", script).stdout.strip()  # whose parent is process 1
    try:
        eventually(lambda: client.ctr("version", check=False).returncode == 0, 20, "containerd's answer")
        client.ctr("image", "import", "--snapshotter", "native", base / "image.tar")
        yield client
    finally:
        root.call("sh", "-c", f"kill {daemon}")
        eventually(lambda: root.call("test", "-e", f"/proc/{daemon}", check=False).returncode, 20, "containerd's end")
