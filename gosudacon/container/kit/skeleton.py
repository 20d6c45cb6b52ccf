"""The package that ``gosudacon plugin new`` writes: small, complete, and with tests that pass."""

from __future__ import annotations

import os
import re

import gosudacon
from gosudacon.base.errors import Error
from gosudacon.container.kit import templates
from gosudacon.pipeline import discovery

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_LONGEST = 40


def write(directory: str, name: str) -> list[str]:
    """Write the package of the plugin ``name`` to ``directory``, which is made; returns the files, relative to it.

    Raises `Error` for a name that cannot be one or is taken, and for a directory with something in it; OSError.
    """
    _check(name)
    try:
        if os.listdir(directory):
            raise Error(f"{directory} is not empty", hint="nothing is ever overwritten: name another --directory")
    except FileNotFoundError:
        pass
    texts = files(name)
    for path, text in texts.items():
        place = os.path.join(directory, path)
        os.makedirs(os.path.dirname(place), 0o755, exist_ok=True)
        with open(place, "x", encoding="utf-8") as file:
            file.write(text)
    return list(texts)


def files(name: str) -> dict[str, str]:
    """The texts of the package of a plugin, by path."""
    module = f"gosudacon_{name.replace('-', '_')}"
    words = {
        "@NAME@": name,
        "@MODULE@": module,
        "@CLASS@": "".join(word.capitalize() for word in name.split("-")),
        "@VARIABLE@": name.replace("-", "_").upper(),
        "@VERSION@": gosudacon.__version__,
    }
    found = {
        "pyproject.toml": templates.PYPROJECT,
        "README.md": templates.README,
        f"src/{module}/__init__.py": templates.MODULE,
        f"src/{module}/py.typed": "",
        "tests/conftest.py": templates.CONFTEST,
        f"tests/test_{module.removeprefix('gosudacon_')}.py": templates.TESTS,
        ".github/workflows/test.yml": templates.WORKFLOW,
        ".gitignore": templates.IGNORED,
    }
    return {path: re.sub("@[A-Z]+@", lambda match: words[match[0]], text) for path, text in found.items()}


def _check(name: str) -> None:
    if not _NAME.fullmatch(name) or len(name) > _LONGEST:
        raise Error(
            f"{name!r} cannot be the name of a plugin",
            hint=f"small letters and digits, words joined by single dashes, at most {_LONGEST} characters",
        )
    if name in discovery.built_in():
        raise Error(f"{name!r} is the name of a built-in stage")
    for each in discovery.available():
        if each.name == name:
            raise Error(f"there is a plugin {name!r} already, of {each.package or 'gosudacon itself'}")
