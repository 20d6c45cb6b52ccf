"""What ``audit --format json`` has written, for a plan that is shown: ``explain --audit FILE``."""

from __future__ import annotations

from gosudacon.audit.verdict import ORDER
from gosudacon.base import jsonio, posix
from gosudacon.base.errors import Error, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_LARGEST = 64 << 20  # bytes


def verdicts(path: str, id: str, steps: Sequence[str]) -> dict[int, str]:
    """Index of a step -> the gravest verdict on what it did. ``steps``: their lines, in the order of the plan.

    Of several containers it is the one with this id. Raises `Error` for a file that is not an audit, or is one of
    another plan.
    """
    found: dict[int, str] = {}
    others = 0
    for finding in _findings(path, id):
        number, verdict = finding.get("number"), finding.get("verdict")
        if not isinstance(number, int) or not isinstance(verdict, str):
            continue  # what no step has asked for
        if not 0 < number <= len(steps) or steps[number - 1] != finding.get("step"):
            others += 1
            continue
        found[number - 1] = min(verdict, found.get(number - 1, verdict), key=_gravity)
    if others > len(found):
        raise Error(f"{path}: an audit of another plan", hint=f"is it of the container {id}, made from this bundle?")
    return found


def _gravity(verdict: str) -> int:
    return ORDER.index(verdict) if verdict in ORDER else len(ORDER)


def _findings(path: str, id: str) -> list[dict[str, object]]:
    try:
        data: object = jsonio.loads(posix.read_file(path, _LARGEST))
    except OSError as error:
        raise Error(f"open {path}: {reason(error)}") from error
    except jsonio.JSONError as error:
        raise Error(f"{path}: invalid JSON: {error}") from None
    containers = data.get("containers") if isinstance(data, dict) else None
    if not isinstance(containers, list) or not all(isinstance(each, dict) for each in containers):
        raise Error(f"{path}: not an audit", hint="`gosudacon audit --format json` writes one")
    chosen = [each for each in containers if each.get("id") == id] or (containers if len(containers) == 1 else [])
    if not chosen:
        raise Error(f"{path}: no audit of the container {id}")
    findings = chosen[0].get("findings")
    return [each for each in findings if isinstance(each, dict)] if isinstance(findings, list) else []
