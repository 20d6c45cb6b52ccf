"""What can be said about a failure in addition to its message: the place in config.json, and a hint.

Imported when something has failed, by the runtime's side: the container's process imports nothing any more. It looks
at the configuration, the host and the image again, and changes nothing.
"""

from __future__ import annotations

from gosudacon.base import layout
from gosudacon.base.errors import Error, SettingsError, reason
from gosudacon.container import bundle as bundles
from gosudacon.container.state import Container, Store
from gosudacon.pipeline.registry import CONFIG
from gosudacon.pipeline.spec import EXEC, Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.schema.positions import Path


def diagnosed(error: Error | OSError, spec: Spec | None = None, root: str = "", settings: str = "") -> Error:
    """The error with ``place`` and ``hint``; an OSError becomes an `Error`.

    ``spec``: what the operation was about, if it came to know; ``root``: the directory of all containers' state;
    ``settings``: the administrator's configuration.
    """
    from gosudacon.container import hints

    if not isinstance(error, Error):
        error = Error(reason(error), call=getattr(error, "call", ""), errno=error.errno or 0)
    if not error.hint:
        error.hint = hints.find(hints.Failure(error, spec, root))
    if isinstance(error, SettingsError):
        error.place = settings or CONFIG
    elif spec is not None and not error.place:
        error.place = _place(error, spec)
    return error


def saved(root: str, id: str) -> Spec | None:
    """What a container that exists was made from; None if that cannot be read."""
    store = Store(root, id)
    try:
        store.open()
        bundle = Container.load(store).data["bundle"]
        return Spec(bundles.saved(store), id, bundle, text=store.read(layout.CONFIG))
    except (Error, OSError):
        return None
    finally:
        store.close()


def _place(error: Error, spec: Spec) -> str:
    """``config.json:47:14: hostname``; without line and column where the file does not say it (``exec``)."""
    first = error.problems[0] if error.problems else {}
    where = error.where or first.get("where", "")
    line, column = first.get("line", 0), first.get("column", 0)
    if not line and where and spec.operation != EXEC:
        line, column = position(where, spec)
    if not line:
        return where
    place = f"{spec.options.config or layout.CONFIG}:{line}:{column}"
    return f"{place}: {where}" if where else place


def position(where: str, spec: Spec) -> tuple[int, int]:
    """Line and column of a value in config.json, or of the innermost one around it; zeros if it cannot be told."""
    if spec.text is None:
        return 0, 0
    from gosudacon.base import jsonio
    from gosudacon.schema.positions import Positions

    try:
        path = path_of(where, jsonio.loads(spec.text))
        positions = Positions(spec.text.decode())
        return positions.line_column(positions.value(path))
    except ValueError:
        return 0, 0


def path_of(where: str, value: object) -> Path:
    """``mounts[3].options`` as a path into ``value``, whose members may have dots in their names.

    As far as there is something; what there is not is one more name at the end.
    """
    path: list[str | int] = []
    while where:
        if where[0] == "[" and isinstance(value, list):
            digits, _, where = where[1:].partition("]")
            number = int(digits)
            path.append(number)
            value = value[number] if number < len(value) else None
        elif where[0] == "[":
            name = where[1:-1]
            return (*path, name)
        elif isinstance(value, dict):
            where = where.removeprefix(".")
            names = [name for name in value if where.startswith(name) and where[len(name) : len(name) + 1] in ".["]
            if not names:
                return (*path, where)
            name = max(names, key=len)
            path.append(name)
            value, where = value[name], where[len(name) :]
        else:
            break
    return tuple(path)
