"""Strict JSON for the hot path, straight on CPython's C scanner and encoder.

The module `json` costs about 6 ms to import, nearly all of it for `re`. Its two fast halves live in the C
module `_json`, which costs next to nothing, so this file drives those. `_json` is not a public interface: when
it is missing, or behaves in a way not expected here, the ordinary `json` takes its place with the same
results.

Stricter than `json` in what it reads (RFC 8259): UTF-8 only and no byte order mark, no NaN or Infinity (nor
a number too large for a double, which would become one), no text above `SIZE_LIMIT`. Laxer in nothing.
Of duplicate names in an object the last one wins, as in Go's `encoding/json`, so that we and the programs
that write our files read the same thing in them.

Strings can hold NUL (written `\\u0000`) and lone surrogates (`\\ud800`), neither of which may reach a system
call. `gosudacon.schema` refuses them in every string and name that the specification gives a meaning; a file
that is read without that check has to be looked at for `\\u`, the only way either gets in.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    Scan = Callable[[str, int], tuple[object, int]]
    ScanString = Callable[..., tuple[str, int]]
    Encode = Callable[[object], str]
    Quote = Callable[[str], str]

__all__ = ["SIZE_LIMIT", "JSONError", "dumps", "loads", "scan_string", "scan_value", "without_nulls"]
# scan_value(text, at) reads the value that begins at the offset `at`, scan_string(text, at) the string whose
# opening quote is before `at`; both give what they read and the offset behind it. Only for text that `loads`
# has taken: what they raise for other text differs between versions of Python.

SIZE_LIMIT = 16 * 1024 * 1024
"""The longest text `loads` reads, in bytes."""

_BLANK = " \t\n\r"
_LARGEST = 1.7976931348623157e308  # the largest finite double


class JSONError(ValueError):
    """The text is not the JSON we read.

    `message` says what is wrong, `offset` where: the number of characters before the spot. `line` and
    `column` give the same place counted from 1, the column in characters. All three are 0 when the fault
    has no place of its own (the text is too long).
    """

    def __init__(self, message: str, text: str = "", offset: int = -1) -> None:
        self.message = message
        self.offset = max(offset, 0)
        self.line = text.count("\n", 0, offset) + 1 if offset >= 0 else 0
        self.column = offset - text.rfind("\n", 0, offset) if offset >= 0 else 0
        super().__init__(f"{message} at line {self.line}, column {self.column}" if self.line else message)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _finite(digits: str) -> float:
    number = float(digits)
    if not -_LARGEST <= number <= _LARGEST:
        raise ValueError("a number is too large")
    return number


_DIFFERENT = (ImportError, AttributeError, TypeError, ValueError, StopIteration)


class _Context:
    """The settings `_json.make_scanner` reads, as attributes, from the decoder that calls it."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    array_hook = None
    parse_float = _finite
    parse_int = int
    parse_constant = _refuse_constant


def _c_halves() -> tuple[Scan, ScanString, Encode, Quote]:
    """Scanner, string scanner, encoder and string encoder of `_json`.

    Raises one of `_DIFFERENT` when this interpreter's `_json` is not the one we know.
    """
    import _json

    scan: Scan = _json.make_scanner(_Context)  # type: ignore[arg-type]
    if scan(' {"a": [0.5, null]}', 1) != ({"a": [0.5, None]}, 19):
        raise ImportError("_json.make_scanner behaves differently")
    quote = _json.encode_basestring_ascii
    chunks = _json.make_encoder(None, _refuse_object, quote, None, ":", ",", False, False, False)

    def encode(value: object) -> str:
        return "".join(chunks(value, 0))

    if encode({"a": [0.5, None]}) != '{"a":[0.5,null]}':
        raise ImportError("_json.make_encoder behaves differently")
    return scan, _json.scanstring, encode, quote


def _ordinary_halves() -> tuple[Scan, ScanString, Encode, Quote]:
    """The same four, from the module `json`."""
    import json.decoder
    import json.encoder

    decoder = json.JSONDecoder(parse_float=_finite, parse_constant=_refuse_constant)
    encoder = json.JSONEncoder(check_circular=False, allow_nan=False, separators=(",", ":"), default=_refuse_object)
    scan: Scan = decoder.scan_once  # type: ignore[attr-defined]
    scan_string: ScanString = json.decoder.scanstring  # type: ignore[attr-defined]
    return scan, scan_string, encoder.encode, json.encoder.encode_basestring_ascii


def _refuse_object(value: object) -> NoReturn:
    raise TypeError(f"{type(value).__name__} has no JSON form")


try:
    scan_value, scan_string, _encode, _quote = _c_halves()
except _DIFFERENT:
    scan_value, scan_string, _encode, _quote = _ordinary_halves()


def loads(data: bytes) -> object:
    """The value written in `data`, a JSON text in UTF-8 of at most `SIZE_LIMIT` bytes.

    Objects become `dict`, arrays `list`, numbers `int` or `float` (only as `float` if written with a
    fraction or an exponent), and so on, exactly these types. White space around the value is allowed.

    Raises JSONError (a ValueError), with line and column, for everything that is not one JSON value.
    """
    text = _decode(data)
    start = len(text) - len(text.lstrip(_BLANK))
    try:
        value, end = scan_value(text, start)
    except (ValueError, StopIteration, RecursionError, SystemError) as error:
        raise _explain(error, text, start) from None
    if end != len(text):
        rest = text[end:].lstrip(_BLANK)
        if rest:
            raise JSONError("unexpected text after the value", text, len(text) - len(rest))
    return value


def dumps(obj: object, indent: int | None = None) -> str:
    """`obj` as JSON text in pure ASCII, without a line feed at the end.

    Without `indent` on one line without blanks; with it, one member or element a line, indented by so many
    blanks for each level (`{}` and `[]` stay together). object `str` survives the way there and back, those
    that stand for undecodable file names (PEP 383) included.

    Raises TypeError for what JSON cannot express, ValueError for NaN, infinities and structures too deep.
    """
    try:
        return _encode(obj) if indent is None else _pretty(obj, " " * indent, "\n")
    except RecursionError:
        raise ValueError("nested too deeply") from None


def without_nulls(value: object) -> object:
    """`value` without those members of objects that are null, at any depth; `value` itself stays as it is.

    In runc's reading of `config.json` a null means an absent member. Nulls in arrays remain. Worth
    calling only where the text holds `null` at all.
    """
    holder: list[object] = [value]
    todo: list[Any] = [holder]
    while todo:  # a loop, not recursion: nesting may be deeper than the interpreter's stack
        node = todo.pop()
        for place, old in list(node.items() if type(node) is dict else enumerate(node)):
            new: dict[str, object] | list[object]
            if type(old) is dict:
                new = {name: member for name, member in old.items() if member is not None}
            elif type(old) is list:
                new = old.copy()
            else:
                continue
            node[place] = new
            todo.append(new)
    return holder[0]


def _decode(data: bytes) -> str:
    if len(data) > SIZE_LIMIT:
        raise JSONError(f"{len(data)} bytes are too long, the limit is {SIZE_LIMIT}")
    if data[:3] == b"\xef\xbb\xbf":
        raise JSONError("a byte order mark instead of a value", "", 0)
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError as error:
        before = str(data[: error.start], "utf-8")
        raise JSONError("not UTF-8", before, len(before)) from None


def _explain(error: Exception, text: str, start: int) -> JSONError:
    """The scanner's `error` on `text`, which it began at `start`, as a JSONError with its place.

    The scanner raises StopIteration(offset) where a value should begin, `json.JSONDecodeError` for other
    faults of syntax (in Python 3.11 only if that class has been imported, a SystemError otherwise), and
    plain errors without a place from our hooks and from `int` (more than 4300 digits).
    """
    import json.decoder

    if isinstance(error, SystemError):
        try:
            scan_value(text, start)
        except (ValueError, StopIteration) as same:
            error = same
    if isinstance(error, StopIteration):
        return JSONError("expecting a value", text, error.value)
    if isinstance(error, RecursionError):
        return JSONError("nested too deeply", text, _deepest(text))
    if isinstance(error, json.decoder.JSONDecodeError):
        message = error.msg.removesuffix(" at").removesuffix(" starting")
        return JSONError(message[:1].lower() + message[1:], text, error.pos)
    message = "a number has too many digits" if "digit" in str(error) else str(error)
    return JSONError(message, text, _bad_number(text))


def _bad_number(text: str) -> int:
    """Offset of the first number in `text` that this module does not take."""
    at, end = 0, len(text)
    while at < end:
        if text[at] == '"':
            at = scan_string(text, at + 1)[1]
        elif text[at] in "-0123456789NI":
            try:
                at = scan_value(text, at)[1]
            except (ValueError, StopIteration):
                return at
        else:
            at += 1
    return 0


def _deepest(text: str) -> int:
    """Offset of the opening bracket in `text` that has the most others open around it."""
    at, end, depth, deepest, place = 0, len(text), 0, 0, 0
    while at < end:
        char = text[at]
        if char == '"':
            try:
                at = scan_string(text, at + 1)[1]
            except ValueError:
                break
            continue
        if char in "[{":
            depth += 1
            if depth > deepest:
                deepest, place = depth, at
        elif char in "]}":
            depth -= 1
        at += 1
    return place


def _pretty(value: object, step: str, margin: str) -> str:
    """`value` over several lines; `margin` is a line feed and the indentation of the line it begins on."""
    inner = margin + step
    if isinstance(value, dict) and value:
        members = [f"{_name(name)}: {_pretty(member, step, inner)}" for name, member in value.items()]
        return "{" + inner + ("," + inner).join(members) + margin + "}"
    if isinstance(value, list | tuple) and value:
        return "[" + inner + ("," + inner).join([_pretty(item, step, inner) for item in value]) + margin + "]"
    return _encode(value)


def _name(name: object) -> str:
    if not isinstance(name, str):
        raise TypeError(f"{type(name).__name__} is not a member's name")
    return _quote(name)
