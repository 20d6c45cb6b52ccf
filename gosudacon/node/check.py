"""Say what is wrong with the configuration that the only argument names: ``python check.py FILE``, on the node.

A program of its own, with the node's root as its root: it imports the plugins that the file enables and plans a
container by its settings, as the node's commands will. Prints what they would; the exit status is 1 then. A container
that a policy does not allow is not a fault of the file.
"""

from __future__ import annotations

import sys


def problem(path: str) -> str:
    """What is wrong with the file ``path``; empty if nothing is."""
    from gosudacon.base.errors import ConfigError, Error, reason
    from gosudacon.container.create import compile_plan
    from gosudacon.container.kit import samples
    from gosudacon.pipeline.spec import Host, Spec

    for name, config in samples.samples().items():
        try:
            compile_plan(Spec(config, name, "/srv/check"), Host(), path, use_snapshot=False)
        except ConfigError:
            continue
        except Exception as error:  # noqa: BLE001 - a plugin of others may raise anything
            hint = error.hint if isinstance(error, Error) else ""
            return f"{reason(error)}; {hint}" if hint else reason(error)
    return ""


if __name__ == "__main__":
    sys.path[1:1] = sys.argv[2:]
    found = problem(sys.argv[1])
    print(found)
    sys.exit(1 if found else 0)
