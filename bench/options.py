"""Command line of ``python -m bench``."""

from __future__ import annotations

import argparse
from pathlib import Path

from . import clients, timing
from .runtimes import DEFAULT

DESCRIPTION = """\
Compare gosudacon with runc, crun and the bare interpreter: whole processes, interleaved in one
run, after warm-up. Needs root, busybox-static, and the runtimes named by --runtimes.
See docs/bench.md for what each figure means."""


def parser() -> argparse.ArgumentParser:
    """The parser; its help is the reference."""
    top = argparse.ArgumentParser(
        prog="python -m bench", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = top.add_argument_group("what to measure (default: the timed table and memory)")
    what.add_argument("--scale", action="store_true", help="the scale run instead: many containers")
    what.add_argument(
        "--clients", nargs="?", type=_clients, const=list(clients.NAMES), metavar="CLIENT,...",
        help=f"run --rm by the clients instead: all, or these of {','.join(clients.NAMES)}",
    )  # fmt: skip
    what.add_argument(
        "--pods", action="store_true", help="pods through containerd instead, also by the shim of our own"
    )
    what.add_argument(
        "--network", action="store_true", help="gosudacon with and without the plugin network: create, delete, run"
    )
    what.add_argument(
        "--plugins", action="store_true", help="what each plugin that ships adds to create instead, when it is enabled"
    )
    what.add_argument(
        "--profile", nargs="?", const="gosudacon", metavar="RUNTIME",
        help="where the time of create (or of --only) goes, by strace and -X importtime (%(const)s)",
    )  # fmt: skip
    what.add_argument(
        "--only", type=_commands, metavar="COMMAND,...",
        help=f"only these of {','.join(timing.COMMANDS)}",
    )  # fmt: skip
    what.add_argument("--no-memory", action="store_true", help="skip the memory figures")
    who = top.add_argument_group("what to compare")
    who.add_argument(
        "--runtimes", type=_words, default=list(DEFAULT), metavar="NAME,...",
        help=f"default {','.join(DEFAULT)}; NAME=COMMAND adds any other that speaks runc's language",
    )  # fmt: skip
    who.add_argument("--gosudacon", metavar="PATH", help="default: on PATH, else /usr/local/bin/gosudacon")
    who.add_argument("--python", default="/usr/bin/python3", metavar="PATH", help="interpreter under it (%(default)s)")
    container = top.add_argument_group("the container")
    container.add_argument("--seccomp", action="store_true", help="with a profile of the shape of Docker's")
    container.add_argument("--userns", action="store_true", help="with a user namespace")
    container.add_argument(
        "--hide-unified", choices=("needed", "all", "never"), default="needed",
        help="hybrid cgroup layout: hide the unified mount from the runtimes that refuse it (%(default)s), "
        "from all, or from none",
    )  # fmt: skip
    how = top.add_argument_group("how much")
    how.add_argument("--runs", type=_count, default=40, metavar="N", help="rounds that count (%(default)s)")
    how.add_argument("--warmup", type=_warmup, default=5, metavar="N", help="first, uncounted (%(default)s)")
    how.add_argument(
        "--settle", type=float, default=50, metavar="MS", help="idle time before each sample (%(default)s)"
    )
    how.add_argument("--memory-samples", type=_count, default=5, metavar="N", help="samples of memory (%(default)s)")
    how.add_argument(
        "--containers",
        type=_count,
        default=200,
        metavar="N",
        help="containers of a scale run, pods of --pods (%(default)s)",
    )
    how.add_argument("--slots", type=_counts, default=[1, 16], metavar="N,...", help="at a time, in scale runs (1,16)")
    how.add_argument("--timeout", type=float, default=60, metavar="S", help="watchdog, seconds (%(default)s)")
    out = top.add_argument_group("output")
    out.add_argument("--json", type=Path, metavar="FILE", help="also write everything, raw samples included")
    out.add_argument("--quiet", action="store_true", help="no progress on stderr")
    return top


def _words(text: str) -> list[str]:
    words = [word for word in text.split(",") if word]
    if not words:
        raise argparse.ArgumentTypeError("empty list")
    return words


def _commands(text: str) -> list[str]:
    words = _words(text)
    for word in words:
        if word not in timing.COMMANDS:
            raise argparse.ArgumentTypeError(f"{word!r} is none of {', '.join(timing.COMMANDS)}")
    return words


def _clients(text: str) -> list[str]:
    words = _words(text)
    for word in words:
        if word not in clients.NAMES:
            raise argparse.ArgumentTypeError(f"{word!r} is none of {', '.join(clients.NAMES)}")
    return words


def _count(text: str) -> int:
    number = _warmup(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _warmup(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"not a number: {text!r}")
    return int(text)


def _counts(text: str) -> list[int]:
    return [_count(word) for word in _words(text)]
