"""What a plugin adds to ``create``: its imports, as ``plugin list`` measures them, and a whole create with it enabled.

The plugins are those that ship with gosudacon, found as the program finds them. The container has the host's network,
no devices and no annotations, so that none of them has anything to do: what is added is what every container pays.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from .runtimes import Runtime, UnknownRuntime
from .spawn import CommandFailed
from .workspace import Workspace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.container.kit.plugins import Cost

NONE = "gosudacon"
"""The command without a plugin."""
SETTINGS = {"policy": '[[stage.policy.rule]]\nname = "boot"\nmessage = "not /boot"\ndeny-paths = ["/boot"]\n'}
"""What a plugin must have in config.toml."""


def names() -> list[str]:
    """The plugins that ship. UnknownRuntime where the bench's interpreter lacks what gosudacon needs."""
    try:
        from gosudacon.pipeline import discovery
    except ImportError as error:
        raise UnknownRuntime(f"--plugins imports gosudacon itself: {error}") from error
    return [each.name for each in discovery.available() if not each.package]


def variants(runtime: Runtime, directory: Path) -> list[Runtime]:
    """The command as it is (with an empty configuration), and once for each plugin, with that one enabled."""
    found = []
    for name in ("", *names()):
        file = directory / f"{name or 'none'}.toml"
        listed = f'"{name}"' if name else ""
        file.write_text(f"plugins = [{listed}]\n\n{SETTINGS.get(name, '')}")
        file.chmod(0o644)
        command = (*runtime.command, "--config-file", str(file))
        found.append(replace(runtime, name=name or runtime.name, command=command))
    return found


def leave_out(work: Workspace) -> list[tuple[str, str]]:
    """Take the plugins out of a run with which nothing can be created here, and say why."""
    skipped = []
    for name, runtime in [*work.runtimes.items()]:
        container = work.container(runtime, "trial")
        try:
            for word in ("create", "kill", "delete"):
                work.do(container, word)
        except CommandFailed as error:
            if name == NONE:
                raise
            del work.runtimes[name]
            lines = [line for line in str(error).splitlines() if not line.startswith("hint: ")]
            skipped.append((f"create with {name}", lines[-1]))
    return skipped


def imports(starts: int) -> tuple[dict[str, Cost], list[tuple[str, str]]]:
    """The cost of importing each plugin, measured in turn; and those that cannot be imported, with the reason."""
    from gosudacon.base.errors import Error
    from gosudacon.container.kit import cost
    from gosudacon.pipeline import discovery

    modules: dict[str, list[str]] = {}
    skipped: list[tuple[str, str]] = []
    for name in names():
        try:
            modules[name] = discovery.parts(name).modules
            cost.compare({name: modules[name]}, 1)
        except Error as error:
            modules.pop(name, None)
            skipped.append((name, error.message))
    return cost.compare(modules, starts), skipped
