"""The end of `explain`: what is shared with the host in five lines, the risk, and its reasons."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from gosudacon.container.risk import LEVELS, NONE, TOPICS, Reason, level_of, reaches
from gosudacon.pipeline.explain import wrapped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_STYLES = {"none": "green", "low": "green", "medium": "yellow", "high": "red", "critical": "bold red"}
_TOPIC = 12  # columns


def as_json(reasons: Sequence[Reason]) -> dict[str, object]:
    """``shared``: topic -> what is shared; ``risk``: the level and every reason, the gravest first."""
    ordered = _ordered(reasons)
    return {
        "shared": {topic: [each.what for each in reasons if each.topic == topic] for topic in TOPICS},
        "risk": {"level": level_of(ordered), "reasons": [each.to_json() for each in ordered]},
    }


def show(reasons: Sequence[Reason], threshold: str = "", topics: Sequence[str] = TOPICS) -> None:
    """Print it; with ``threshold`` every reason of that level and above, with its place and why."""
    console = Console(highlight=False, soft_wrap=False)
    lines = [Text(), Text("shared with the host", "bold")]
    for topic in topics:
        items = [each.what for each in _ordered(reasons) if each.topic == topic]
        lines.append(Text(f" {topic.ljust(_TOPIC)}").append(_fitted(items, console.width - _TOPIC - 1)))
    lines += _risk(_ordered(reasons), threshold, console.width)
    for line in lines:
        console.print(line, no_wrap=True, overflow="ignore", crop=False)


def _risk(reasons: list[Reason], threshold: str, width: int) -> list[Text]:
    level = level_of(reasons)
    if not threshold:
        gravest = [each.what for each in reasons if each.level == level]
        line = Text("risk ", "bold").append(level, _STYLES[level])
        if gravest:
            line.append(": ").append(_fitted(gravest, width - len(line)))
        return [line]
    reached = [each for each in reasons if reaches(each.level, threshold)]
    verdict = f"reaches {threshold}" if reached else f"below {threshold}"
    verdict = "for these reasons" if threshold == NONE else verdict
    lines = [Text("risk ", "bold").append(level, _STYLES[level]).append(f", {verdict}")]
    for each in reached:
        place = f" ({each.where})" if each.where else ""
        parts = wrapped(f"{_printable(each.what)}: {each.why}{place}", max(width - 10, 24))
        for number, part in enumerate(parts):
            lines.append(Text(f" {'' if number else each.level:9}", _STYLES[each.level]).append(part, "default"))
    return lines


def _ordered(reasons: Sequence[Reason]) -> list[Reason]:
    return sorted(reasons, key=lambda each: -LEVELS.index(each.level))


def _fitted(items: list[str], width: int) -> str:
    """As many of the items as fit, and how many more there are; "nothing" for none."""
    items = [_printable(item) for item in dict.fromkeys(items)]
    for count in range(len(items), 0, -1):
        more = f", and {len(items) - count} more" if count < len(items) else ""
        line = ", ".join(items[:count]) + more
        if len(line) <= width:
            return line
    if not items:
        return "nothing"
    more = f", and {len(items) - 1} more" if len(items) > 1 else ""
    return items[0][: max(width - len(more) - 1, 8)] + "…" + more


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in text)


def exceeds(reasons: Sequence[Reason], threshold: str) -> bool:
    """Whether the level reaches a threshold; an empty one, never."""
    level = level_of([*reasons])
    return threshold not in ("", NONE) and reaches(level, threshold)
