"""containerd 2.x, and a Docker for it: packages of a newer Debian, verified by apt(8), unpacked and not installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tools.debian_root import mirror
from tools.side_by_side import Failure, Job

SUITE = "forky"
CONTAINERD = "containerd"
PACKAGES = (CONTAINERD, "docker.io", "docker-cli")
KEYRINGS = tuple(Path(f"/usr/share/keyrings/debian-archive-keyring.{end}") for end in ("gpg", "pgp"))
"""Debian's keys, with which the suite's lists must be signed."""
OLDEST = 2
"""The major version that is wanted."""
SHARED = ("Dir::Etc::SourceParts=/dev/null", "Acquire::Languages=none", "APT::Sandbox::User=root")


def make(job: Job, target: Path) -> str:
    """Unpack the packages in ``target`` unless that has been done; the directories of their programs, as in PATH.

    Raises Failure, which names the mirror, if they are not available, or if containerd does not run here.
    """
    complete = target.with_name(f"{target.name}.complete")
    if not complete.exists():
        shutil.rmtree(target, ignore_errors=True)
        where = mirror()
        try:
            for package in _fetch(job, target / "apt", where):
                job.run(["dpkg-deb", "-x", str(package), str(target)])
        except Failure as error:
            raise Failure(f"cannot get packages of Debian's {SUITE} from {where}: {error}") from None
        shutil.rmtree(target / "apt")
        check_version(_answer([str(target / "usr/bin" / CONTAINERD), "--version"]))
        complete.touch()
    return f"{target}/usr/bin:{target}/usr/sbin"


def check_version(text: str) -> None:
    """Raise Failure unless this is what a containerd of the version that is wanted says of itself."""
    words = text.split()
    version = words[2].lstrip("v") if len(words) > 2 else ""
    major = version.partition(".")[0]
    if not major.isdigit() or int(major) < OLDEST:
        raise Failure(
            f"{CONTAINERD} of Debian's {SUITE} is not a {OLDEST}.x that runs here: {text.strip() or 'it says nothing'}"
        )


def options(directory: Path, uri: str) -> list[str]:
    """What makes apt know this suite alone, and keep all it makes in ``directory``, in which its folders are made."""
    for name in ("lists/partial", "cache/archives/partial"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    (directory / "status").touch()
    keyring = next((path for path in KEYRINGS if path.exists()), None)
    if keyring is None:
        raise Failure(f"Debian's keys are not here: no {KEYRINGS[0]}")
    (directory / "sources.list").write_text(f"deb [signed-by={keyring}] {uri} {SUITE} main\n")
    places = {
        "Dir::Etc::SourceList": "sources.list",
        "Dir::State": "",
        "Dir::State::Lists": "lists",
        "Dir::State::status": "status",
        "Dir::Cache": "cache",
    }
    settings = [*SHARED, *(f"{name}={directory / place}" for name, place in places.items())]
    return [word for setting in settings for word in ("-o", setting)]


def _fetch(job: Job, directory: Path, uri: str) -> list[Path]:
    """The packages' files, which apt has compared with the signed list. They are left where the command runs."""
    chosen = options(directory, uri)
    job.run(["apt-get", "-q", *chosen, "update"])
    job.run(["env", "-C", str(directory), "apt-get", "-q", *chosen, "download", *PACKAGES])
    return sorted(directory.glob("*.deb"))


def _answer(words: list[str]) -> str:
    result = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    return result.stdout or result.stderr
