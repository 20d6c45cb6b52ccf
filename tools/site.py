"""Makes a site of the documents: `make site`, or

    python -m tools.site [DIRECTORY]

Sphinx does the work, with the settings of tools/sphinx/conf.py. The documents link to each other as files of the
repository, so that they can be read there, too. Here they are copied to a directory of their own, the README as the
first page, with links between pages instead of links between files. A link to a file that is not a page becomes
the words of the link. A link to a file or heading that does not exist, and a page that `SECTIONS` does not name, end
the build.
"""

from __future__ import annotations

import argparse
import posixpath
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
SETTINGS = CHECKOUT / "tools/sphinx"
TARGET = CHECKOUT / "build/site"
SECTIONS = {
    "Start": ("install", "examples", "doctor", "errors", "changelog"),
    "See what is done": ("explain", "explain-html", "a-container-step-by-step", "trace", "audit", "learn"),
    "Engines": ("integration", "shim", "kubernetes", "callers"),
    "Containers": ("config", "properties", "annotations", "mounts", "cgroups", "seccomp", "hooks", "checkpoint"),
    "The host": ("configuration", "policy", "cdi", "network", "cni"),
    "Plugins": (
        "plugin-tutorial",
        "plugins",
        "plugin-testing",
        "plugin-reference",
        "plugin-api",
        "instead-of-wrapping",
    ),
    "Security": ("security", "protections", "launcher", "reporting"),
    "Inside": ("architecture", "testing", "bench", "contributing"),
}
"""The navigation: each page of the site, in order."""
OUTSIDE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "reporting.md",
    "examples/README.md": "examples.md",
}
"""Documents outside of docs/, and what they are called in the site."""
_FENCED = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s:#]+)(#[^)\s]*)?\)")


_MARK = "objects.inv"
"""A file that every site of Sphinx's has."""


class BrokenLink(Exception):
    """A document links to a file that does not exist."""


class NotASite(Exception):
    """The target holds something else, which would be lost."""


def build(target: Path) -> None:
    """Make the site in ``target``, replacing an older one.

    Raises `BrokenLink`, `NotASite`, OSError, or CalledProcessError after messages.
    """
    if target.exists() and not (target / _MARK).exists() and (not target.is_dir() or any(target.iterdir())):
        raise NotASite(f"{target} is not a site, and is not empty: remove it, or name another directory")
    with tempfile.TemporaryDirectory(prefix="gosudacon-site-") as scratch:
        source, made = Path(scratch) / "source", Path(scratch) / "made"
        collect(source)
        convert(source, made)
        if target.exists():
            shutil.rmtree(target)
        shutil.copytree(made, target, ignore=shutil.ignore_patterns(".*"))


def convert(source: Path, made: Path, messages: int | None = None) -> None:
    """Let Sphinx make HTML of a directory. Every warning is an error: raises CalledProcessError.

    Its messages go to the descriptor ``messages``; `subprocess.PIPE`: they are in the exception.
    """
    command = [sys.executable, "-B", "-m", "sphinx", "--fail-on-warning", "--keep-going", "--nitpicky", "--quiet"]
    command += ["--builder", "html", "--conf-dir", str(SETTINGS), str(source), str(made)]
    subprocess.run(command, check=True, cwd=CHECKOUT, stderr=messages, text=True)


def collect(directory: Path) -> None:
    """Write the pages as Sphinx is to find them. Raises `BrokenLink`."""
    directory.mkdir()
    for source, name in sources():
        text = relinked((CHECKOUT / source).read_text("utf-8"), source)
        (directory / name).write_text(text + navigation() if name == "index.md" else text, "utf-8")
    for picture in (CHECKOUT / "docs").glob("*.svg"):
        shutil.copy(picture, directory)


def sources() -> Iterator[tuple[str, str]]:
    """Each document: its path in the repository, and the name of its page."""
    yield from OUTSIDE.items()
    for path in sorted((CHECKOUT / "docs").glob("*.md")):
        yield f"docs/{path.name}", path.name


def navigation() -> str:
    """What the first page says to Sphinx; it is not shown."""
    lines = [""]
    for title, pages in SECTIONS.items():
        lines += ["", "```{toctree}", ":hidden:", f":caption: {title}", "", *pages, "```"]
    return "\n".join(lines) + "\n"


def relinked(text: str, source: str) -> str:
    """A document with its links as the site needs them. Fenced code stays as it is. Raises `BrokenLink`."""
    parts, at = [], 0
    for fenced in _FENCED.finditer(text):
        parts += [_LINK.sub(lambda link: _link(link, source), text[at : fenced.start()]), fenced[0]]
        at = fenced.end()
    return "".join([*parts, _LINK.sub(lambda link: _link(link, source), text[at:])])


def _link(link: re.Match[str], source: str) -> str:
    mark, words, target, anchor = link[1], link[2], link[3], link[4] or ""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    if not (CHECKOUT / path).exists():
        raise BrokenLink(f"{source}: a link to {target}, which does not exist")
    page = OUTSIDE.get(path) or (posixpath.basename(path) if posixpath.dirname(path) == "docs" else "")
    if not page:
        return words
    named = words in (target, posixpath.basename(target)) and not anchor
    return f"{mark}[{'' if named else words}]({page}{anchor})"  # Sphinx puts the title there


def main() -> int:
    """Build, and say where."""
    parser = argparse.ArgumentParser("python -m tools.site", description="Make a site of the documents.")
    parser.add_argument("directory", nargs="?", type=Path, default=TARGET, help="default: %(default)s")
    target = parser.parse_args().directory.absolute()
    try:
        build(target)
    except (BrokenLink, NotASite, OSError) as error:
        print(f"tools/site.py: {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print("tools/site.py: the site was not made; see the messages above", file=sys.stderr)
        return error.returncode
    print(target / "index.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
