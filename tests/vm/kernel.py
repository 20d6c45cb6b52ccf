"""A Debian kernel for the machine: found where it is installed, or unpacked from its package."""

from __future__ import annotations

import lzma
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "linux-image-cloud-amd64"
"""Depends on the newest kernel without drivers for real hardware: small, and quick to boot."""


class NoKernel(Exception):
    """There is no kernel that the machine could boot; the message says what to do."""


@dataclass(frozen=True)
class Kernel:
    """A kernel image, its release as ``uname -r`` gives it, and its directory of modules."""

    image: Path
    release: str
    modules: Path


def find_kernel(image: Path | None = None) -> Kernel:
    """The kernel ``image``, or else the newest in ``/boot``, a cloud kernel before others of its version.

    Its modules are looked for in ``../lib/modules`` of the image's directory, then in ``/lib/modules``, and
    must have a ``modules.dep``.  Raises NoKernel.
    """
    candidates = [image] if image else sorted(Path("/boot").glob("vmlinuz-*"), key=_age, reverse=True)
    for candidate in candidates:
        release = candidate.name.partition("-")[2]
        for base in (candidate.resolve().parent.parent / "lib/modules", Path("/lib/modules")):
            if (base / release / "modules.dep").exists():
                return Kernel(candidate, release, (base / release).resolve())
    raise NoKernel(f"no kernel with modules found; install {PACKAGE}, or name one with --kernel")


def _age(image: Path) -> tuple[list[int], bool]:
    return [int(number) for number in re.findall(r"\d+", image.name)], "cloud" in image.name


def unpack_kernel(cache: Path) -> Path:
    """Download the newest kernel package and unpack it below ``cache``, unless it is there; return the image.

    Nothing is installed: the package's scripts would write to ``/boot``.  Raises NoKernel.
    """
    listing = _run("apt-cache", "depends", PACKAGE)
    match = re.search(r"Depends: (linux-image-(\S+-cloud-amd64))", listing)
    if match is None:
        raise NoKernel(f"apt knows no dependency of {PACKAGE}; run apt-get update")
    package, release = match.groups()
    target = cache / release
    image = target / "boot" / f"vmlinuz-{release}"
    if not (target / "complete").exists():
        target.mkdir(parents=True, exist_ok=True)
        _run("apt-get", "download", "-q", package, cwd=target)
        for archive in target.glob("*.deb"):
            _run("dpkg", "-x", str(archive), str(target))
            archive.unlink()
        if not (target / "lib").exists():  # from Debian 13 on, the modules are in /usr/lib
            (target / "lib").symlink_to("usr/lib")
        _run("depmod", "-b", str(target), release)
        (target / "complete").touch()
    return image


def _run(*words: str, cwd: Path | None = None) -> str:
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    try:
        result = subprocess.run(words, cwd=cwd, capture_output=True, text=True, env={**os.environ, "PATH": path})
    except FileNotFoundError:
        raise NoKernel(f"{words[0]} is missing on this machine") from None
    if result.returncode != 0:
        raise NoKernel(f"{' '.join(words)}: {result.stderr.strip()}")
    return result.stdout


def load_modules(kernel: Kernel, wanted: list[str]) -> tuple[dict[str, bytes], list[str]]:
    """The wanted modules with all that they need, as files below ``/lib/modules/RELEASE``, uncompressed.

    The second value names those of ``wanted`` that are modules; the others are built in.
    """
    needs: dict[str, list[str]] = {}
    for line in (kernel.modules / "modules.dep").read_text().splitlines():
        path, _, rest = line.partition(":")
        needs[Path(path).name.split(".")[0].replace("-", "_")] = [path, *rest.split()]
    names = [name for name in wanted if name in needs]
    files = {}
    for path in {path for name in names for path in needs[name]}:
        data = (kernel.modules / path).read_bytes()
        files[path.removesuffix(".xz")] = lzma.decompress(data) if path.endswith(".xz") else data
    lines = [f"{paths[0]}: {' '.join(paths[1:])}".replace(".xz", "") for paths in needs.values()]
    table = "\n".join(line for line in lines if line.partition(":")[0] in files) + "\n"
    return {**files, "modules.dep": table.encode()}, names
