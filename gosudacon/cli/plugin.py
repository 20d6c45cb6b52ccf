"""``gosudacon plugin``."""

from __future__ import annotations

from gosudacon.base import jsonio, posix
from gosudacon.base.errors import Error
from gosudacon.cli import output
from gosudacon.cli.main import root_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.cli.parse import Invocation
    from gosudacon.container.kit.plugins import Row

_TITLES = ("NAME", "FROM", "ENABLED", "IMPORT", "STAGES", "RIGHTS", "FILES")


def run(invocation: Invocation) -> int:
    """List, check, enable, disable or create plugins. Raises `Error` or OSError."""
    action, *names = invocation.args
    if action not in _ACTIONS:
        raise Error(f"unknown action {action!r} of plugin: it is {', '.join(_ACTIONS)}")
    if action != "list" and not names:
        raise Error(f"plugin {action} needs the name of a plugin")
    return _ACTIONS[action](invocation, names)


def _config(invocation: Invocation) -> str:
    """The configuration's path if one was given, else empty."""
    return posix.path.abspath(invocation.globals["config-file"]) if "config-file" in invocation.given else ""


def _is_json(invocation: Invocation) -> bool:
    return bool(invocation.options["format"] == "json")


def _list(invocation: Invocation, names: list[str]) -> int:
    from gosudacon.container.kit import plugins

    rows = plugins.listing(_config(invocation), names)
    if _is_json(invocation):
        output.write(jsonio.dumps(rows, 2) + "\n")
    else:
        output.write(output.table([_TITLES, *map(_cells, rows)]) + "".join(map(_remarks, rows)))
    return 1 if any(row["problem"] for row in rows) else 0


def _cells(row: Row) -> tuple[str, ...]:
    cost, own = row["cost"], [file["path"] for file in row["files"]]
    place = next((path for path in own if not any(other.startswith(f"{path}/") for other in own)), "?")
    top = (
        row["module"].rpartition(".")[2] if row["module"].startswith("gosudacon.") else row["module"].partition(".")[0]
    )
    tops = [path for path in own if path.rpartition("/")[2] in (top, f"{top}.py")]
    return (
        row["name"],
        f"{row['package']} {row['version']}" if row["package"] else "gosudacon",
        str(row["position"] or "no"),
        f"{cost['milliseconds']:.1f} ms" if cost else "-",
        ",".join(row["stages"]) if row["stages"] else "-",
        "ok" if row["safe"] else "OPEN",
        (tops or [place])[0],
    )


def _remarks(row: Row) -> str:
    lines = [f"{row['name']}: {row['problem']}"] if row["problem"] else []
    lines += [
        f"{row['name']}: others than root can change {file['path']} (owner {file['owner']}, mode {file['mode']})"
        for file in row["files"]
        if not file["safe"]
    ]
    return "".join(f"{line}\n" for line in lines)


def _enable(invocation: Invocation, names: list[str]) -> int:
    from gosudacon.container.kit import enabling

    return _said(invocation, enabling.enable(_config(invocation), names))


def _disable(invocation: Invocation, names: list[str]) -> int:
    from gosudacon.container.kit import enabling

    return _said(invocation, enabling.disable(_config(invocation), names, root_of(invocation)))


def _said(invocation: Invocation, sentences: list[str]) -> int:
    if _is_json(invocation):
        output.write(jsonio.dumps({"done": sentences}) + "\n")
    else:
        output.write("".join(f"{sentence}\n" for sentence in sentences))
    return 0


def _check(invocation: Invocation, names: list[str]) -> int:
    from gosudacon.container.kit import checks

    directories = [posix.path.abspath(each) for each in invocation.options["bundle"]]
    results = [checks.check(name, _config(invocation), directories) for name in names]
    if _is_json(invocation):
        output.write(jsonio.dumps(results, 2) + "\n")
    for result in results if not _is_json(invocation) else ():
        found = result["problems"]
        verdict = f"{len(found)} problem{'s' * (len(found) != 1)}" if found else "nothing to object to"
        output.write(f"{result['plugin']}: {len(result['bundles'])} bundles, {result['steps']} steps: {verdict}\n")
        for each in (*found, *result["remarks"]):
            place = " ".join(f"[{part}]" for part in (each["bundle"], each["step"]) if part)
            output.write(f"  {each['kind']}: {each['message']}{f' {place}' if place else ''}\n")
    return 1 if any(result["problems"] for result in results) else 0


def _new(invocation: Invocation, names: list[str]) -> int:
    from gosudacon.container.kit import skeleton

    if len(names) > 1:
        raise Error("plugin new takes one name")
    directory = invocation.options["directory"] or names[0]
    files = skeleton.write(posix.path.abspath(directory), names[0])
    return _said(invocation, [f"wrote {posix.path.join(directory, path)}" for path in files])


_ACTIONS = {"list": _list, "check": _check, "enable": _enable, "disable": _disable, "new": _new}
