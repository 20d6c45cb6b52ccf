"""What the node's engine needs in its configuration files to know the runtime."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from gosudacon.base import layout
from gosudacon.base.errors import Error
from gosudacon.node import places, toml_edit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.node.files import Node
    from gosudacon.node.toml_edit import Table

    #: Files by their paths on the node, None for one that is not there.
    Texts = dict[str, str | None]

# The plugin in which containerd keeps its runtimes, by the version of the file's format.
_PLUGINS = {
    1: "cri",
    2: "io.containerd.grpc.v1.cri",
    3: "io.containerd.cri.v1.runtime",
    4: "io.containerd.cri.v1.runtime",
}
_MAIN, _FOLDER, _NAME = "/etc/containerd/config.toml", "/etc/containerd/conf.d", "gosudacon.toml"
_SHIM = f"{places.PREFIX}/{places.CURRENT}/bin/{places.SHIM}"
_RUNC = {"runtime_type": "io.containerd.runc.v2"}
_OWN = {"runtime_type": _SHIM}
_CRIO_FILE = "/etc/crio/crio.conf.d/50-gosudacon.conf"
_CRIO = f"""\
# Written by the DaemonSet of gosudacon, which takes it away again.
[crio.runtime.runtimes.{places.HANDLER}]
runtime_path = "{places.PREFIX}/{places.CURRENT}/bin/gosudacon"
runtime_type = "oci"
runtime_root = "{layout.STATE_ROOT}"
"""
# Distributions of Kubernetes that write containerd's configuration themselves, at every start.
_WRITERS = re.compile(r"[-+](k3s|rke2)")


@dataclass(frozen=True)
class Engine:
    """What runs the node's pods: ``name`` is ``containerd`` or ``cri-o``, ``unit`` the name of systemd's unit.

    ``major``: the first number of its version. ``main``: containerd's own file of configuration.
    """

    name: str
    major: int
    unit: str
    main: str = _MAIN

    def wanted(self, node: Node) -> Texts:
        """The files with the runtime in them. Raises `Error` if that is not possible, OSError."""
        return {_CRIO_FILE: _CRIO} if self.name == "cri-o" else self._containerd(node)

    def former(self, node: Node, made: list[str]) -> Texts:
        """The files without it; those that were ``made`` are gone if nothing was added to them. Raises as `wanted`."""
        if self.name == "cri-o":
            return {_CRIO_FILE: None}
        text = node.read(self.main)
        plain = None if text is None else toml_edit.without(text)
        main = None if self.main in made and not (plain or "").strip() else plain
        try:
            folder = _imported(toml_edit.parsed(text or "", self.main), self.main) or _FOLDER
        except Error:  # it was damaged since
            folder = _FOLDER
        return {self.main: main, f"{folder}/{_NAME}": None}

    def _containerd(self, node: Node) -> Texts:
        text = node.read(self.main)
        plain = toml_edit.without(text or "")
        tables = toml_edit.parsed(plain, self.main)
        version = self._version(tables)
        keys = ("plugins", _PLUGINS[version], "containerd", "runtimes")
        known = toml_edit.at(tables, *keys)
        self._check(tables, known)
        begin = "" if tables else f"version = {version}\n"  # without the line containerd takes the file for version 1
        folder = _imported(tables, self.main)
        texts: Texts = {}
        added: dict[str, object] = {"version": version} if begin else {}
        if version >= 3 and (folder or "imports" not in tables):
            texts[f"{folder or _FOLDER}/{_NAME}"] = f"version = {version}\n{_table(version, places.HANDLER, _OWN)}"
            if not folder:
                added["imports"] = [f"{_FOLDER}/*.toml"]
            lines = begin + ("" if folder else f'imports = ["{_FOLDER}/*.toml"]\n')
            main = toml_edit.first(plain, lines) if lines else plain
        else:
            # containerd forgets its built-in runtime where the file names one.
            runtimes = {places.HANDLER: _OWN} if known else {"runc": _RUNC, places.HANDLER: _OWN}
            added |= toml_edit.nested(keys, runtimes)
            main = toml_edit.last(plain, begin + "".join(_table(version, *each) for each in runtimes.items()))
        toml_edit.check(self.main, plain, main, added)
        return texts | {self.main: main}

    def _version(self, tables: Table) -> int:
        """The version of the main file's format; where it is empty, the one that this containerd writes."""
        version = tables.get("version", 1 if tables else 3 if self.major >= 2 else 2)
        if not isinstance(version, int) or version not in _PLUGINS:
            raise Error(f"{self.main} is of version {version!r}; known are {', '.join(map(str, _PLUGINS))}")
        return version

    def _check(self, tables: Table, known: Table) -> None:
        disabled = tables.get("disabled_plugins", [])
        if isinstance(disabled, list) and not {"cri", *_PLUGINS.values()}.isdisjoint(map(str, disabled)):
            raise Error(
                f"{self.main} disables the plugin that a kubelet needs",
                hint="is it the file of the kubelet's containerd?",
            )
        if places.HANDLER in known:
            raise Error(f"{self.main} has a runtime {places.HANDLER} already", hint="remove it, or exclude this node")


def of(runtime_version: str, unit: str = "", main: str = "") -> Engine:
    """The engine of a node whose ``nodeInfo.containerRuntimeVersion`` is ``containerd://1.7.2``.

    ``unit`` and ``main``: what the administrator names instead of the usual ones. Raises `Error` for an engine that
    is not known.
    """
    name, _, version = runtime_version.partition("://")
    number = version.partition(".")[0].lstrip("v")
    if name not in ("containerd", "cri-o") or not number.isdigit():
        raise Error(f"the node's engine is {runtime_version!r}; known are containerd and cri-o")
    if (writer := _WRITERS.search(version)) and not main:
        raise Error(
            f"{writer[1]} writes containerd's configuration itself",
            hint="name its template and its unit in the DaemonSet's environment: docs/kubernetes.md",
        )
    usual = "crio.service" if name == "cri-o" else "containerd.service"
    return Engine(name, int(number), unit or usual, main or _MAIN)


def _imported(tables: Table, main: str) -> str:
    """A directory all of whose .toml files the main file imports; empty if it has none."""
    imports = tables.get("imports", [])
    for pattern in imports if isinstance(imports, list) else ():
        folder, name = os.path.split(os.path.join(os.path.dirname(main), str(pattern)))
        if name == "*.toml" and not re.search(r"[*?\[]", folder):
            return folder
    return ""


def _table(version: int, runtime: str, values: Table) -> str:
    lines = "".join(f'  {key} = "{value}"\n' for key, value in values.items())
    return f'[plugins."{_PLUGINS[version]}".containerd.runtimes.{runtime}]\n{lines}'
