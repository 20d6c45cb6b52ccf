"""The image's program: ``gosudacon-node install|remove|ready``."""

from __future__ import annotations

import os
import sys

from gosudacon.base.errors import Error, reason
from gosudacon.node.agent import Agent, Settings, is_ready
from gosudacon.node.install import said

_USAGE = """\
gosudacon-node install   install gosudacon on this node, and keep it up to date
gosudacon-node remove    remove it, when no container needs it any more
gosudacon-node ready     whether that is done: exit status 0, or 1 with the reason

It runs in the pods of its DaemonSets: docs/kubernetes.md.
"""


def main() -> None:
    """The command line; leaves with its exit status."""
    word = sys.argv[1] if len(sys.argv) == 2 else ""
    if word in ("--help", "-h"):
        print(_USAGE, end="")
    elif word == "ready":
        if problem := is_ready():
            sys.exit(problem)
    elif word in ("install", "remove"):
        try:
            Agent(Settings.of(os.environ), removes=word == "remove").run()
        except Error as error:
            sys.exit(f"gosudacon-node: {said(error)}")
        except OSError as error:
            sys.exit(f"gosudacon-node: {reason(error)}")
    else:
        print(_USAGE, end="", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
