"""What all pages and pictures share: colours, escaping, and the frame of a page that needs nothing from elsewhere."""

from __future__ import annotations

import re
import unicodedata
from html import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# name: (on light, on dark). Each is readable (a contrast of 4.5 or more) on `bg`, `panel` and `target`.
PALETTE = {
    "bg": ("#ffffff", "#0d1117"),
    "panel": ("#f6f8fa", "#151b23"),
    "target": ("#fff5c2", "#3b2e05"),
    "fg": ("#1f2328", "#e6edf3"),
    "dim": ("#57606a", "#9da7b3"),
    "line": ("#d0d7de", "#3d444d"),
    "link": ("#0757ba", "#79b8ff"),
    "runtime": ("#116329", "#4ac26b"),
    "container": ("#0757ba", "#79b8ff"),
    "around": ("#8c959f", "#6e7681"),
    "undo": ("#6e40c9", "#c297ff"),
    "barrier": ("#7d4e00", "#e3b341"),
    "bad": ("#b3202c", "#ff8f87"),
    "key": ("#0550ae", "#79c0ff"),
    "string": ("#0a3069", "#a5d6ff"),
    "number": ("#8a3b00", "#ffb77c"),
    "word": ("#6639ba", "#d2a8ff"),
}
_DARK = "@media screen and (prefers-color-scheme:dark)"
_JOINT = re.compile(r"(?<=[|,+;=])(?=.)|(?<=\w)(?=/)")
_COLOUR = re.compile(r"\$(\w+)")
# What is not drawn, moves its neighbours, or is not a character. Only what `_SUSPECT` finds is looked at closely.
_ODD_KINDS = frozenset(("Cc", "Cf", "Cs", "Cn", "Co", "Zl", "Zp", "Zs"))
_FILLERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
_ESCAPES = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}
_SUSPECT = re.compile(r"[^ -~\u00a1-\u00ac\u00ae-\u02ff\u0370-\u0560\u3041-\u3163\u4e00-\u9fff]")


def rules() -> str:
    """The palette as custom properties, ``--bg`` and so on, for light and for dark."""
    light, dark = (";".join(f"--{name}:{pair[at]}" for name, pair in PALETTE.items()) for at in (0, 1))
    return f":root{{color-scheme:light dark;{light}}}{_DARK}{{:root{{{dark}}}}}"


def themed(style: str) -> str:
    """CSS whose ``$name`` are colours of the palette, followed by those rules again for dark.

    For a picture, since not all that draws SVG knows custom properties.
    """
    coloured = "".join(rule for rule in re.findall(r"[^{}]+\{[^{}]*\}", style) if "$" in rule)
    return f"{_coloured(style, 0)}{_DARK}{{{_coloured(coloured, 1)}}}"


def _coloured(style: str, which: int) -> str:
    return _COLOUR.sub(lambda match: PALETTE[match[1]][which], style)


def _is_odd(character: str) -> bool:
    if character == " ":
        return False
    if unicodedata.category(character) in _ODD_KINDS or character in _FILLERS:
        return True
    return "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"  # variation selectors


def _name(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    return f"U+{ord(character):04X}"


def plain(text: str) -> str:
    """A text in which every character can be seen: what cannot is shown as ``[U+202E]`` or ``[\\n]``. Not escaped."""
    return _SUSPECT.sub(lambda match: f"[{_name(match[0])}]" if _is_odd(match[0]) else match[0], text)


def attribute(text: str) -> str:
    """`plain`, escaped for an attribute or for a text of XML."""
    return escape(plain(text))


def text(value: str) -> str:
    """HTML of a text in which every character can be seen, and what cannot is marked as such."""
    if not _SUSPECT.search(value):
        return escape(value)
    parts = []
    for piece in re.split(f"({_SUSPECT.pattern})", value):
        odd = len(piece) == 1 and _is_odd(piece)
        parts.append(f'<span class="odd">{_name(piece)}</span>' if odd else escape(piece))
    return "".join(parts)


def wrapped(value: str) -> str:
    """`text` that may go on in the next line where names are joined, so that none is broken in the middle."""
    return "<wbr>".join(text(piece) for piece in _JOINT.split(value))


def limited(value: str, most: int, html: Callable[[str], str] = text) -> str:
    """HTML of a text, and of what is beyond so many characters only how many they are."""
    left = len(value) - most
    more = f'<span class="cut">… {left:,} characters more</span>' if left > 0 else ""
    return html(value[:most]) + more


def cut(value: str, width: int) -> str:
    """A text of at most so many characters."""
    return value if len(value) <= width else value[: width - 1] + "…"


def page(title: str, style: str, body: str, inner: tuple[str, ...] = ()) -> str:
    """A whole page: it runs no script, loads nothing, and its policy says so to the browser.

    ``title`` is a plain text; ``inner``: the content of ``<style>`` elements in the body.
    """
    css = f"{rules()}{style}"
    hashes = " ".join(f"'sha256-{_hash(each)}'" for each in (css, *inner))
    policy = f"default-src 'none'; style-src {hashes}; base-uri 'none'; form-action 'none'"
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f'<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        f'<meta name="color-scheme" content="light dark">\n<meta name="referrer" content="no-referrer">\n'
        f"<title>{attribute(title)}</title>\n<style>{css}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _hash(style: str) -> str:
    import base64
    import hashlib  # loads OpenSSL, and pictures need none

    return base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()


def svg(title: str, width: int, height: int, style: str, parts: list[str]) -> str:
    """An ``<svg>`` element with a background of its own. ``title`` is a plain text, ``style`` as for `themed`."""
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            f'role="img" aria-label="{attribute(title)}">',
            f"<style>{themed(style)}</style>",
            f'<rect class="bg" width="{width}" height="{height}"/>',
            *parts,
            "</svg>\n",
        )
    )


def style_of(picture: str) -> tuple[str, ...]:
    """The content of the ``<style>`` elements of pictures that `svg` has made."""
    return tuple(re.findall(r"<style>(.*?)</style>", picture, re.DOTALL))


def duration(seconds: float) -> str:
    """``1.63 ms``."""
    return f"{seconds * 1e3:.2f} ms"
