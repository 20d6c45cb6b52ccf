"""Build the Debian package: ``python3 -m tools.deb [DIRECTORY]``, or ``make deb``.

One package for Debian 12 and later, made by dpkg-deb(1) of the wheel (`tools.dist`) and of what is in ``tools/debian``.
It is reproducible. $DEBFULLNAME and $DEBEMAIL name the maintainer. The version is that of gosudacon; where CHANGELOG.md
has something under "Unreleased" the date of the build is added, so that a later build is an upgrade.

The build that a command runs depends on the interpreter, so ``postinst`` makes it, by `gosudacon install`, in
/usr/lib/gosudacon. The package has links to the commands there.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import subprocess
import tempfile
import time
import zipfile
from email.utils import formatdate
from pathlib import Path

from gosudacon import __version__
from gosudacon.cli import completion, man, share
from tools import dist

CHECKOUT = Path(__file__).resolve().parents[1]
PARTS = Path(__file__).with_name("debian")
NAME = "gosudacon"
HOME = f"usr/lib/{NAME}"
PACKAGES = "usr/lib/python3/dist-packages"
DOCUMENTS = f"usr/share/doc/{NAME}"
_SHIM = f"containerd-shim-{NAME}-v1"
_MAINTAINER = ("gosudacon maintainers", "maintainers@gosudacon.example.org")
_SCRIPTS = ("postinst", "prerm", "postrm")
_CONFIGURATION = f"etc/{NAME}/config.toml"
_DOCUMENTED = (".md", ".svg")  # what else is in docs/ belongs to an editor
_PLACES = {"usr/share/zsh/site-functions/": "usr/share/zsh/vendor-completions/"}
"""Where `gosudacon install` puts files -> where Debian's programs look for them."""
_NOT_IN_PACKAGES = ("/RECORD", "/licenses/LICENSE")  # of the wheel's metadata: pip's, and what /usr/share/doc has


def build(target: Path) -> Path:
    """Build the package into ``target``, complete or not at all; its path. Raises as `dist.build`."""
    target = target.absolute()
    target.mkdir(parents=True, exist_ok=True)
    architecture = _output("dpkg", "--print-architecture")
    date = dist.epoch()
    os.environ["SOURCE_DATE_EPOCH"] = str(date)  # for the man pages, the wheel and dpkg-deb
    version = version_of((CHECKOUT / "CHANGELOG.md").read_text(), date)
    with tempfile.TemporaryDirectory(prefix="gosudacon-deb-") as scratch:
        root = Path(scratch) / "root"
        root.mkdir()
        _, wheel = dist.build(Path(scratch) / "dist")
        _unpack(wheel, root / PACKAGES)
        if not (root / PACKAGES / NAME / "launcher/launcher").exists():
            raise dist.Failed("the package needs the launcher: install a C compiler")
        _put_commands(root)
        _put_shared(root)
        _put_documents(root, version, date)
        _put_control(root, version, architecture)
        _normalize(root, date)
        return _pack(root, target / f"{NAME}_{version}_{architecture}.deb")


def _pack(root: Path, path: Path) -> Path:
    draft = path.with_name(f".{path.name}")
    words = ["dpkg-deb", "--root-owner-group", "-Zxz", "--threads-max=1", "--build", str(root), str(draft)]
    try:
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        return draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def version_of(changelog: str, date: int) -> str:
    """The version of a package that is built at ``date``, in seconds, of what this changelog describes."""
    unreleased = re.search(r"^## \[Unreleased\]\n(.*?)(?:^## |\Z)", changelog, re.S | re.M)
    suffix = time.strftime("+%Y%m%d%H%M%S", time.gmtime(date)) if unreleased and unreleased[1].strip() else ""
    return f"{__version__}{suffix}-1"


def _output(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


def _unpack(wheel: Path, target: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if not name.endswith(_NOT_IN_PACKAGES)]
        for name in names:
            Path(archive.extract(name, target)).chmod(archive.getinfo(name).external_attr >> 16 & 0o777)


def _put_commands(root: Path) -> None:
    for name in (NAME, _SHIM):
        link = root / "usr/bin" / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(f"../lib/{NAME}/bin/{name}")


def _put_shared(root: Path) -> None:
    """Man pages, completions and the unit; the administrator's configuration.

    Without the line by which `gosudacon uninstall` knows its own files: these are dpkg's.
    """
    marks = [f"{completion.marker(NAME, comment)}\n".encode() for comment in ("#", man.COMMENT)]
    for path, content in share.make("/usr", NAME, Path("/usr/bin", NAME)).items():
        place = str(path.relative_to("/"))
        for before, after in _PLACES.items():
            place = place.replace(before, after)
        for mark in marks:
            content = content.replace(mark, b"", 1)
        _write(root / place, content, compress="/man/" in place)
    (root / f"usr/share/man/man8/{_SHIM}.8.gz").symlink_to(f"{NAME}-shim.8.gz")
    _write(root / _CONFIGURATION, _part("config.toml"))


def _put_documents(root: Path, version: str, date: int) -> None:
    documents = root / DOCUMENTS
    entry = (
        f"{NAME} ({version}) unstable; urgency=medium\n\n"
        f"  * Version {__version__}: changelog.gz says what is new.\n\n"
        f" -- {_maintainer()}  {formatdate(date)}\n"
    )
    _write(documents / "changelog.Debian", entry.encode(), compress=True)
    _write(documents / "changelog", (CHECKOUT / "CHANGELOG.md").read_bytes(), compress=True)
    _write(documents / "copyright", _part("copyright"))
    for path in [CHECKOUT / "README.md", *(CHECKOUT / "docs").rglob("[!.]*")]:
        if path.suffix in _DOCUMENTED:
            _write(documents / path.relative_to(CHECKOUT), path.read_bytes())
    _write(root / f"usr/share/lintian/overrides/{NAME}", _part("lintian-overrides"))


def _put_control(root: Path, version: str, architecture: str) -> None:
    control = root / "DEBIAN"
    files = [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]
    values = {
        "version": version,
        "architecture": architecture,
        "maintainer": _maintainer(),
        "size": str(sum(-(-path.stat().st_size // 1024) for path in files)),
    }
    _write(control / "control", _part("control").decode().format(**values).encode())
    # dpkg has the sum of a conffile itself: its owner may change it.
    summed = [path for path in files if path != root / _CONFIGURATION]
    sums = sorted(f"{_md5(path)}  {path.relative_to(root)}\n" for path in summed)
    _write(control / "md5sums", "".join(sums).encode())
    for name in ("conffiles", "triggers"):
        _write(control / name, _part(name))
    for name in _SCRIPTS:
        _write(control / name, _part(name))
        (control / name).chmod(0o755)


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def _maintainer() -> str:
    name, address = _MAINTAINER
    return f"{os.environ.get('DEBFULLNAME') or name} <{os.environ.get('DEBEMAIL') or address}>"


def _part(name: str) -> bytes:
    return (PARTS / name).read_bytes()


def _write(path: Path, content: bytes, *, compress: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if compress:
        path = path.with_name(f"{path.name}.gz")
        content = gzip.compress(content, 9, mtime=0)
    path.write_bytes(content)


def _normalize(root: Path, date: int) -> None:
    """Modes and times of their own for all, whatever the umask and the hour."""
    for path in [*root.rglob("*"), root]:
        if not path.is_symlink():
            executable = path.is_dir() or path.stat().st_mode & 0o100
            path.chmod(0o755 if executable else 0o644)
        os.utime(path, (date, date), follow_symlinks=False)


def main() -> None:
    """Build, and print the path."""
    dist.command_line("tools.deb", "Build the package for Debian.", lambda target: [build(target)])


if __name__ == "__main__":
    main()
