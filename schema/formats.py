"""The formats named in the schemas: one predicate each, for a string.

A `format` in the schemas is binding. The compiler copies this file into the module it generates, and the
jsonschema gear calls the same functions, so that both mean the same by construction. Hence the rules of this
file: no imports, and nothing but functions; format `absolute-path` is the function `absolute_path`.
"""

from __future__ import annotations


def text(s: str) -> bool:
    """Any text a system call or a file can take: no NUL, no lone surrogate."""
    if s.isascii():
        return "\0" not in s
    try:
        return b"\0" not in s.encode()
    except UnicodeEncodeError:
        return False


def line(s: str) -> bool:
    """Text without a line feed."""
    return "\n" not in s and text(s)


def absolute_path(s: str) -> bool:
    """Text that begins with a slash."""
    return s[:1] == "/" and text(s)


def absolute_path_or_none(s: str) -> bool:
    """Text that begins with a slash, or none at all."""
    return s == "" or absolute_path(s)


def env_entry(s: str) -> bool:
    """KEY=VALUE with a KEY that is not empty (environ(7))."""
    return s.find("=") > 0 and text(s)


def component(s: str) -> bool:
    """One component of a path, no `.` or `..`: at most 255 bytes, without blanks and control characters."""
    printable = s.isprintable() and " " not in s and "/" not in s
    return printable and s not in ("", ".", "..") and len(s.encode()) <= 255


def clos_id(s: str) -> bool:
    """A directory of the resctrl filesystem: one component, or `/` for its root."""
    return s == "/" or component(s)


def interface_name(s: str) -> bool:
    """What the kernel takes as a network device's name (dev_valid_name in net/core/dev.c)."""
    return component(s) and ":" not in s and len(s.encode()) <= 15


def interface_name_or_none(s: str) -> bool:
    """As `interface_name`, or empty."""
    return s == "" or interface_name(s)


def hostname(s: str) -> bool:
    """What sethostname(2) and setdomainname(2) take: at most 64 bytes. May be empty."""
    return len(s) <= 64 and text(s) and len(s.encode()) <= 64


def cpu_list(s: str) -> bool:
    """The characters of the kernel's list format (`base/ranges.py`), such as `0-3,8-15:2/4`. May be empty."""
    return not s.strip("0123456789,-:/ ")


def hugepage_size(s: str) -> bool:
    """A number and KB, MB or GB, as in the names of the hugetlb controller's files."""
    number = s[:-2]
    return s[-2:] in ("KB", "MB", "GB") and number[:1] != "0" and number.isascii() and number.isdigit()


def mb_schema(s: str) -> bool:
    """A memory bandwidth line of resctrl's schemata file."""
    return s[:3] == "MB:" and line(s)


def sysctl_key(s: str) -> bool:
    """A kernel parameter's name, its parts divided by `.` or `/`.

    The divider that comes first counts; the other one then means it inside a part (sysctl(8)). No part
    may be empty or lead elsewhere.
    """
    if not s.isprintable():
        return False
    dot, slash = s.find("."), s.find("/")
    if dot < 0 or 0 <= slash < dot:
        s = s.replace(".", "\n").replace("/", ".").replace("\n", "/")
    parts = [part.replace("/", ".") for part in s.split(".")]
    return "" not in parts and "." not in parts and ".." not in parts
