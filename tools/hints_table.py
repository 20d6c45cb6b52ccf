"""The table of hints in docs/errors.md: ``python -m tools.hints_table`` prints it."""

from __future__ import annotations

from gosudacon.container.hints import TOPICS


def table() -> str:
    """All kinds of failures that have a hint, by topic, as Markdown."""
    parts = []
    for topic, kinds in TOPICS.items():
        rows = [f"| `{kind.name}` | {kind.sees} |" for kind in kinds]
        parts.append("\n".join([f"### {topic}", "", "| kind | what happened |", "| --- | --- |", *rows, ""]))
    return "\n".join(parts)


if __name__ == "__main__":
    print(table(), end="")
