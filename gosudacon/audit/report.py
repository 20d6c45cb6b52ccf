"""The formats of an audit: a table, JSON, and text for Prometheus."""

from __future__ import annotations

from gosudacon.audit.verdict import FAILURES, ORDER, QUIET
from gosudacon.base import jsonio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.audit.audit import Audit
    from gosudacon.audit.verdict import Finding
    from gosudacon.base.errors import Error

    Failure = tuple[str, Error]

_METRIC = "gosudacon_audit"
_HEADINGS = ("PROPERTY", "ASKED", "KERNEL", "VERDICT")
_WIDEST = (32, 28, 24, 18)  # characters of a column: the line stays within 108
_GAP = "  "


def table(audit: Audit, all_of_them: bool = False) -> str:
    """A line for each difference, or each property; below it who could have changed it, and why."""
    shown = [each for each in audit.findings if all_of_them or each.verdict not in QUIET]
    shown.sort(key=lambda each: ORDER.index(each.verdict))
    made = f", made by {audit.runtime}" if audit.runtime else ""
    lines = [f"{_clean(audit.id)}: process {audit.pid}{made}"]
    lines += [f"note: {text}" for text in audit.lost]
    if shown:
        cells = [tuple(map(_cut, _row(each), _WIDEST)) for each in shown]
        widths = [max(len(row[column]) for row in (_HEADINGS, *cells)) for column in range(3)]
        lines.append(_line(_HEADINGS, widths))
        for each, row in zip(shown, cells, strict=True):
            lines.append(_line(row, widths))
            lines += [f"    {text}" for text in _below(each, row)]
    if all_of_them and audit.traceless:
        lines.append("Steps that leave nothing to see:")
        lines += [f"    {number} {_clean(step)}: {_clean(why)}" for number, step, why in audit.traceless]
    counts = audit.counts()
    lines.append(", ".join(f"{number} {verdict}" for verdict, number in counts.items()) or "nothing was asked")
    return "\n".join(lines) + "\n"


def _row(each: Finding) -> tuple[str, str, str, str]:
    return each.property, each.asked, each.kernel, each.verdict


def _below(each: Finding, row: tuple[str, ...]) -> list[str]:
    texts = []
    wholes = (each.property, each.asked, each.kernel)
    for label, whole, cut in zip(("property", "asked", "kernel"), wholes, row[:3], strict=True):
        if _clean(whole) != cut:
            texts.append(f"{label}: {_clean(whole)}")
    if each.note:
        texts.append(_clean(each.note))
    if each.verdict in QUIET:
        return texts
    if each.who:
        texts.append(f"who: {_clean(each.who)}")
    step = f"step {each.number}, {_clean(each.step)}" if each.number else ""
    texts.append("; ".join(filter(None, (f"seen in {_clean(each.evidence)}", step))))
    return texts


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    padded = [cell.ljust(width) for cell, width in zip(row[:3], widths, strict=True)]
    return _GAP.join([*padded, row[3]]).rstrip()


def _cut(text: str, most: int) -> str:
    text = _clean(text)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _clean(text: str) -> str:
    """Without what a terminal would obey: names in the kernel's files may be the container's."""
    return "".join(character if character.isprintable() else "?" for character in text)


def failures(failed: list[Failure]) -> str:
    """A line for each container that could not be audited."""
    return "".join(f"{_clean(name)}: cannot be audited: {_clean(error.message)}\n" for name, error in failed)


def json(audits: list[Audit], failed: list[Failure]) -> str:
    """One object: the containers with all their findings, and those that could not be audited."""
    data: dict[str, object] = {
        "containers": [
            {
                "id": audit.id,
                "runtime": audit.runtime,
                "pid": audit.pid,
                "notes": audit.lost,
                "counts": audit.counts(),
                "findings": [each.record() for each in audit.findings],
                "traceless": [{"number": each[0], "step": each[1], "why": each[2]} for each in audit.traceless],
            }
            for audit in audits
        ],
        "failed": [{"id": name, "error": error.message} for name, error in failed],
    }
    return jsonio.dumps(data, 2) + "\n"


def prometheus(audits: list[Audit], failed: list[Failure]) -> str:
    """For node_exporter's textfile collector: counts by verdict, a sample for each failure, whether it was possible."""
    lines = [
        f"# HELP {_METRIC}_properties Properties of a container by verdict.",
        f"# TYPE {_METRIC}_properties gauge",
    ]
    for audit in audits:
        counts = audit.counts()
        for verdict in ORDER:
            lines.append(_sample("properties", counts.get(verdict, 0), container=audit.id, verdict=verdict))
    lines += [
        f"# HELP {_METRIC}_failure A property that is not as it was asked for.",
        f"# TYPE {_METRIC}_failure gauge",
    ]
    seen: set[str] = set()
    for audit in audits:
        for each in audit.findings:
            if each.verdict in FAILURES:
                sample = _sample("failure", 1, container=audit.id, property=each.property, verdict=each.verdict)
                if sample not in seen:
                    seen.add(sample)
                    lines.append(sample)
    lines += [
        f"# HELP {_METRIC}_success Whether the container could be audited.",
        f"# TYPE {_METRIC}_success gauge",
    ]
    lines += [_sample("success", 1, container=audit.id) for audit in audits]
    lines += [_sample("success", 0, container=name) for name, _ in failed]
    return "\n".join(lines) + "\n"


def _sample(name: str, value: int, **labels: str) -> str:
    text = ",".join(f'{key}="{_escaped(label)}"' for key, label in labels.items())
    return f"{_METRIC}_{name}{{{text}}} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
