"""The output formats of ``state``, ``list`` and ``--version``, which programs parse."""

from __future__ import annotations

from gosudacon.base import jsonio, posix
from gosudacon.container.state import OCI_VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_COLUMNS = (
    ("ID", "id"),
    ("PID", "pid"),
    ("STATUS", "status"),
    ("BUNDLE", "bundle"),
    ("CREATED", "created"),
    ("OWNER", "owner"),
)
_MIN_WIDTH, _PADDING = 12, 3


def state(record: Mapping[str, object]) -> str:
    """One state as ``state`` prints it: indented by two spaces, without a newline at the end."""
    return jsonio.dumps(record, 2)


def listing(records: Sequence[Mapping[str, object]], format: str = "table", quiet: bool = False) -> str:
    """States as ``list`` prints them: a table, a JSON array on one line (``null`` for none), or ids only.

    The table has a column for addresses if one of the containers has any.
    """
    if quiet:
        return "".join([f"{cell(str(record['id']))}\n" for record in records])
    if format == "json":
        return (jsonio.dumps(list(records)) if records else "null") + "\n"
    rows = [[cell(str(record[key])) for _, key in _COLUMNS] for record in records]
    titles = [title for title, _ in _COLUMNS]
    if any("addresses" in record for record in records):
        titles.append("ADDRESSES")
        for row, record in zip(rows, records, strict=True):
            row.append(cell(_addresses(record.get("addresses"))))
    return table([titles, *rows])


def _addresses(found: object) -> str:
    """All addresses of a container without the lengths of their prefixes; a hyphen for none."""
    lists = found.values() if isinstance(found, dict) else ()
    return ",".join(str(address).partition("/")[0] for addresses in lists for address in addresses) or "-"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Left-aligned columns, at least 12 wide and 3 apart; the last one is not padded.

    This is what Go's ``tabwriter`` does for runc with minimal width 12 and padding 3.
    """
    widths = [max(_MIN_WIDTH, *(len(cell) + _PADDING for cell in column)) for column in zip(*rows, strict=True)]
    return "".join([_row(row, widths) + "\n" for row in rows])


def _row(row: Sequence[str], widths: Iterable[int]) -> str:
    padded = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
    return "".join(padded[:-1]) + row[-1]


def cell(text: str) -> str:
    """``text`` with what a terminal would obey, or the table would stumble over, escaped."""
    if text.isprintable():
        return text
    from gosudacon.cli.log import quote

    return quote(text)[1:-1]


def version() -> str:
    """What ``--version`` prints.

    dockerd takes name and version from both sides of the word ``version`` (so no later line may hold that
    word), and from the line ``commit:`` what ``docker info`` shows; distributions put their package's version
    there, since they build from no repository, and so does this. containerd's go-runc fills in a version only if the
    text begins with ``runc version``, and takes anything else for an unknown version without an error,
    as it does with crun; nothing depends on it, so this program says its own name.
    """
    import gosudacon

    number = gosudacon.__version__
    lines = [f"gosudacon version {number}", f"commit: {number}", f"spec: {OCI_VERSION}"]
    seccomp = _libseccomp()
    if seccomp:
        lines.append(f"libseccomp: {seccomp}")
    return "\n".join(lines) + "\n"


def _libseccomp() -> str:
    """Version of the libseccomp that would be used; empty if it is not installed."""
    import ctypes

    class _Version(ctypes.Structure):
        _fields_ = (("major", ctypes.c_uint), ("minor", ctypes.c_uint), ("micro", ctypes.c_uint))

    try:
        library = ctypes.CDLL("libseccomp.so.2")
        library.seccomp_version.restype = ctypes.POINTER(_Version)
        library.seccomp_version.argtypes = ()
        found = library.seccomp_version().contents
    except (OSError, AttributeError, ValueError):
        return ""
    return f"{found.major}.{found.minor}.{found.micro}"


def write(text: str, fd: int = 1) -> None:
    """Write ``text`` to stdout, or another descriptor, whole. Raises OSError."""
    posix.write_all(fd, text.encode("utf-8", "backslashreplace"), "standard error" if fd == 2 else "standard output")
