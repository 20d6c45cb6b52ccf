"""The word that was probably meant."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def closest(word: str, known: Iterable[str]) -> str:
    """The word of ``known`` that is most like ``word``, in any case of letters; empty if none is alike."""
    from difflib import get_close_matches

    folded: dict[str, str] = {}
    for each in known:
        folded.setdefault(each.lower(), each)
    low = word.lower()
    found = get_close_matches(low, folded, 1, 0.7)
    if not found:  # enviroment: env
        found = [name for name in folded if len(name) > 2 and (low.startswith(name) or (name.startswith(low) and low))]
    return folded[max(found, key=len)] if found else ""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``did you mean X?``, or an empty string."""
    guess = closest(word, known)
    return f"did you mean {guess}?" if guess and guess != word else ""
