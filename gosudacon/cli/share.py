"""The man pages, completions and files for systemd that belong to an installed command, and where they are."""

from __future__ import annotations

from pathlib import Path

from gosudacon.base import user
from gosudacon.base.errors import Error
from gosudacon.cli import completion, man

_COMPLETIONS = {
    "bash": "share/bash-completion/completions/{name}",
    "zsh": "share/zsh/site-functions/_{name}",
    "fish": "share/fish/vendor_completions.d/{name}.fish",
}
"""Below the prefix; with /usr/local or /usr for a prefix, these are the places where the shells look."""


_UNIT = "lib/systemd/system/{name}-shim.service"
_UNIT_TEXT = """\
{marker}
[Unit]
Description=The template of gosudacon's containerd shims
Documentation=man:{name}-shim(8)
Before=containerd.service

[Service]
ExecStart={shim} template
KillMode=process
OOMScoreAdjust=-999
LimitNOFILE=infinity
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity

[Install]
WantedBy=multi-user.target
"""
"""It may be enabled. KillMode: the shims are its children, and live on."""
_TEMPORARY = "lib/tmpfiles.d/{name}.conf"
_TEMPORARY_TEXT = """\
{marker}
# The states of users' containers where there is no /run/user: systemd is not to clean them away as old files.
x {place}-[0-9]*
"""
"""See tmpfiles.d(5)."""


def make(prefix: str, name: str, command: Path) -> dict[Path, bytes]:
    """Path and content of every file that goes with the command ``name``, which is at ``command``."""
    home = Path(prefix).absolute()
    pages = {home / "share/man/man8" / f"{title}.8": text for title, text in man.pages(name).items()}
    scripts = {
        home / place.format(name=name): completion.text(shell, name, str(command))
        for shell, place in _COMPLETIONS.items()
    }
    shim = command.with_name(f"containerd-shim-{name}-v1")
    unit = _UNIT_TEXT.format(marker=completion.marker(name, "#"), name=name, shim=shim)
    temporary = _TEMPORARY_TEXT.format(marker=completion.marker(name, "#"), place=user.FALLBACK)
    systemd = {home / _UNIT.format(name=name): unit, home / _TEMPORARY.format(name=name): temporary}
    files = {**pages, **scripts, **systemd}
    return {path: text.encode() for path, text in files.items()}


def installed(prefix: str, name: str) -> set[Path]:
    """The files of the command ``name`` that `make` has made, now or in an earlier version."""
    home = Path(prefix).absolute()
    pages = [path for path in home.glob("share/man/man8/*.8") if path.name.startswith((f"{name}.", f"{name}-"))]
    scripts = [home / place.format(name=name) for place in (*_COMPLETIONS.values(), _UNIT, _TEMPORARY)]
    return {path for path in (*pages, *scripts) if path.exists() and is_ours(path, name)}


def check(pages: dict[Path, bytes], name: str) -> None:
    """Raise `Error` if a file is in the way that was not made for this command."""
    for path in pages:
        if path.exists() and not is_ours(path, name):
            raise Error(f"{path} exists and is not gosudacon's", hint="remove it, or choose another --name")


def is_ours(path: Path, name: str) -> bool:
    """Whether the file was made for the command ``name``."""
    lines = path.read_bytes().split(b"\n", 2)[:2]
    return any(completion.marker(name, comment).encode() in lines for comment in ("#", man.COMMENT))
