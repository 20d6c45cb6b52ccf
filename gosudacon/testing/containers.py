"""Real containers with a plugin: a program of their own, with the plugin enabled, on the host's own /usr."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType

import gosudacon
from gosudacon.container import demo, host
from gosudacon.pipeline import discovery
from gosudacon.testing import values
from gosudacon.testing.planning import name_of

PARENT = "gosudacon-test"  # the cgroup below which the containers' cgroups are
_LIMIT = 60  # seconds for one command; half of it for anything else
_OWN = {"gosudacon-testing-faults": "gosudacon.testing.inject"}
Completed = subprocess.CompletedProcess[str]


class Container:
    """One container: ``id``, and ``stdout`` and ``stderr``, the files that it writes to."""

    def __init__(self, containers: Containers, id: str, bundle: Path) -> None:
        self.containers = containers  # that made it
        self.id = id
        self.bundle = bundle  # its directory
        self.stdout: Path = bundle / "stdout"
        self.stderr: Path = bundle / "stderr"

    def create(self, check: bool = True) -> Completed:
        """``gosudacon create``."""
        with self.stdout.open("ab") as out, self.stderr.open("ab") as err:
            return self.containers.call(
                "create", "--bundle", str(self.bundle), self.id, check=check, outputs=(out.fileno(), err.fileno())
            )

    def start(self, check: bool = True) -> Completed:
        """``gosudacon start``."""
        return self.containers.call("start", self.id, check=check)

    def exec(self, *args: str, check: bool = True) -> Completed:
        """``gosudacon exec``: run a command in the container and return what it has written."""
        return self.containers.call("exec", self.id, *args, check=check)

    def delete(self, *options: str, check: bool = True) -> Completed:
        """``gosudacon delete``."""
        return self.containers.call("delete", *options, self.id, check=check)

    def status(self) -> str:
        """``created``, ``running``, ``paused`` or ``stopped``; ``none`` if there is no such container."""
        result = self.containers.call("state", self.id, check=False)
        return str(json.loads(result.stdout)["status"]) if result.returncode == 0 else "none"

    def until(self, status: str) -> None:
        """Wait for this status. Raises AssertionError if it does not come within half a minute."""
        deadline = time.monotonic() + _LIMIT / 2
        while self.status() != status:
            assert time.monotonic() < deadline, f"{self.id} is {self.status()}, not {status}"
            time.sleep(0.02)


class Containers:
    """Makes containers of one configuration, below a directory of its own.

    ``plugins``: a module, the name of an installed plugin, or a list of them; a module need not be installed.
    ``settings``: ``[plugin.NAME]`` of the first one; ``config``: other keys of config.toml.
    """

    def __init__(
        self,
        place: Path,
        plugins: ModuleType | str | Sequence[ModuleType | str],
        settings: Mapping[str, object],
        config: Mapping[str, object],
    ) -> None:
        self.place = place  # the directory
        self.root: Path = place / "state"  # the value of ``--root``
        self.made: list[Container] = []  # so far
        self._token = f"gk{os.urandom(4).hex()}"
        place.mkdir(mode=0o755)
        listed = [plugins] if isinstance(plugins, str | ModuleType) else list(plugins)
        names = [name_of(plugin) for plugin in listed]
        for name, plugin in zip(names, listed, strict=True):
            self._announce(name, plugin)
        written = {**config, "plugins": names, "plugin": {names[0]: settings} if settings else {}}
        file = place / "config.toml"
        file.write_text("".join(f"{key} = {_toml(value)}\n" for key, value in written.items()))
        file.chmod(0o644)
        paths = [path for path in sys.path if path and os.path.isdir(path)]
        paths += [str(Path(gosudacon.__file__).parents[1]), str(place / "site")]
        entry = place / "entry.py"
        entry.write_text(
            f"import sys\nsys.path.extend({paths!r})\nfrom gosudacon.__main__ import main\nmain(__file__)\n"
        )
        options = ["--config-file", str(file), "--root", str(self.root)]
        self.command: list[str] = [sys.executable, "-ISBXutf8", str(entry), *options]  # before a command's own words

    def _announce(self, name: str, plugin: ModuleType | str) -> None:
        """An entry point for a module whose package is not installed."""
        if any(each.name == name for each in discovery.available()):
            return
        module = plugin.__name__ if isinstance(plugin, ModuleType) else _OWN.get(plugin, "")
        if not module:
            return
        directory = self.place / f"site/{name.replace('-', '_')}-0.dist-info"
        directory.mkdir(parents=True)
        (directory / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0\n")
        (directory / "entry_points.txt").write_text(f"[{discovery.ENTRY_POINTS}]\n{name} = {module}\n")

    def call(self, *arguments: str, check: bool = True, outputs: tuple[int, int] | None = None) -> Completed:
        """Run a command of gosudacon. With ``check`` an exit status other than 0 is an AssertionError."""
        out, err = outputs or (subprocess.PIPE, subprocess.PIPE)
        command = [*self.command, *arguments]
        result = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, text=True, check=False, timeout=_LIMIT
        )
        if check and result.returncode != 0:
            said = f"{result.stdout or ''}{result.stderr or ''}" or self._said()
            raise AssertionError(f"{' '.join(arguments)}: exit status {result.returncode}\n{said}")
        return result

    def _said(self) -> str:
        return "".join(each.stderr.read_text(errors="replace") for each in self.made[-1:] if each.stderr.exists())

    def new(self, args: Sequence[str] = ("sleep", "1000"), changes: Mapping[str, object] | None = None) -> Container:
        """A bundle that runs ``args`` on the host's /usr, as root, with ``changes`` merged into its configuration."""
        number = len(self.made) + 1
        bundle, id = self.place / f"bundle{number}", f"{self._token}-{number}"
        bundle.mkdir(mode=0o755)
        demo.make_rootfs(str(bundle / "rootfs"))
        base = values.merged(
            demo.spec(args, cgroup_v2=host.gather().cgroup_mode == "v2"), {"linux": {"cgroupsPath": f"/{PARENT}/{id}"}}
        )
        (bundle / "config.json").write_text(json.dumps(values.merged(base, changes or {})))
        self.made.append(Container(self, id, bundle))
        return self.made[-1]

    def output(self, args: Sequence[str], changes: Mapping[str, object] | None = None) -> str:
        """What a container that runs ``args`` to their end has written; its exit status must be 0."""
        container = self.new(args, changes)
        return self.call("run", "--bundle", str(container.bundle), container.id).stdout

    def running(
        self, args: Sequence[str] = ("sleep", "1000"), changes: Mapping[str, object] | None = None
    ) -> Container:
        """A container that has been created and started."""
        container = self.new(args, changes)
        container.create()
        container.start()
        return container

    def explain(self, changes: Mapping[str, object] | None = None) -> dict[str, object]:
        """The JSON of ``gosudacon explain``."""
        found = self.call("explain", "--no-check", "--format", "json", str(self.new(changes=changes).bundle)).stdout
        plan: dict[str, object] = json.loads(found)
        return plan

    def close(self) -> list[str]:
        """Delete all containers that there still are; returns what is left on the host after that."""
        for container in self.made:
            if (self.root / container.id).exists():
                container.delete("--force", check=False)
        return self.leftovers()

    def leftovers(self, patience: float = _LIMIT / 2) -> list[str]:
        """What containers have left on the host, one line for each thing.

        ``patience``: so many seconds it may take to end without a signal.
        """
        deadline = time.monotonic() + patience
        while True:
            found = [*self._mounts(), *self._cgroups(), *self._processes(), *self._states()]
            if not found or time.monotonic() > deadline:
                return found
            time.sleep(0.05)

    def _mounts(self) -> Iterator[str]:
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            if f"{self.place}/" in line or self._token in line:
                yield f"mount {line.split()[4]}"

    def _cgroups(self) -> Iterator[str]:
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            if " - cgroup" in line:
                parent = Path(line.split()[4], PARENT)
                if parent.is_dir():
                    yield from (f"cgroup {path}" for path in parent.iterdir() if path.name.startswith(self._token))

    def _processes(self) -> Iterator[str]:
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if b") Z " in (path / "stat").read_bytes():
                    continue  # it has ended, and its parent has not looked yet
                words = (path / "cmdline").read_bytes() + (path / "cgroup").read_bytes()
            except OSError:
                continue
            if self._token.encode() in words or f"{self.place}/".encode() in words:
                yield f"process {path.name}"

    def _states(self) -> Iterator[str]:
        if self.root.is_dir():
            yield from (f"state {path}" for path in self.root.iterdir())


def _toml(value: object) -> str:
    """A value as TOML, tables in one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
