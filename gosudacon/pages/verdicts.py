"""How verdicts of an audit look: a sign and a style, since no meaning is in a colour alone."""

from __future__ import annotations

_LOOKS = {
    "enforced": ("✓", "ok"),
    "stricter": ("✓", "ok"),
    "rounded": ("≈", "ok"),
    "changed since": ("~", "warn"),
    "drifted": ("≠", "warn"),
    "not enforced": ("✗", "bad"),
    "cannot be observed": ("?", "dim"),
}


def of_verdict(verdict: str) -> tuple[str, str]:
    """Sign and CSS class of a verdict; those of what cannot be observed for one that is not known."""
    return _LOOKS.get(verdict.lower(), ("?", "dim"))
