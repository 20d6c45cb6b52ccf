"""Run the checks and the tests, some parts at the same time, and sum up; called by tools/test."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time

from tools.parts import CACHE, CHECKOUT, ENVIRONMENT, LONGEST_FIRST, REPORTS, Parts
from tools.results import Result, report
from tools.side_by_side import Runner

VALIDATOR = CHECKOUT / "schema/_validator.py"
"""Made when the package is built; the checkout that is tested needs it as well."""
SLOWNESS = 2
"""By what factor the machine is slower for a part that runs at the same time as another."""
PARTS = ("lint", "unit", "newest", "package", "kernel", "security", "clients", "containerd2", "vm", "debian13")


def checkout_status() -> set[str]:
    """What git says of the checkout, ignored files and all, except ``.test-cache``; nothing without git."""
    options = ["--porcelain", "-z", "--ignored", "--untracked-files=all"]
    git = ["git", "-c", f"safe.directory={CHECKOUT}", "status", *options]
    try:
        result = subprocess.run(git, cwd=CHECKOUT, capture_output=True, text=True, timeout=60)
    except OSError:
        return set()
    return {line for line in result.stdout.split("\0") if line and not line[3:].startswith(f"{CACHE.name}/")}


def check_checkout(before: set[str]) -> Result:
    """What the run has left in the checkout: a failure in CI, where nothing else writes to it."""
    left = sorted(checkout_status() - before)
    for line in left:
        print(f"left in the checkout: {line[3:]}")
    passed = not left or os.environ.get("CI") != "true"
    return Result("clean checkout", passed, 0, f"{len(left)} files left" if left else "")


def arguments() -> argparse.Namespace:
    """The command line."""
    texts = "\n".join(f"  {name:12}{getattr(Parts, name).__doc__}" for name in PARTS)
    parser = argparse.ArgumentParser(
        "tools/test",
        description=f"Install what the tests need and run them.\n\nparts (default: all):\n{texts}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--no-install", action="store_true", help="take Debian's packages as they are")
    parser.add_argument(
        "--jobs",
        type=int,
        default=2,
        metavar="N",
        help="run N parts at a time (2), each with its output when it has ended; with 1 output comes as it is made",
    )
    parser.add_argument("--pytest", action="append", default=[], metavar="OPTION", help="pass OPTION on to pytest")
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], metavar="PART")
    return parser.parse_args()


def main() -> int:
    """Run the chosen parts; the exit status."""
    chosen = arguments()
    start = time.monotonic()
    names = [name for name in LONGEST_FIRST if name in (chosen.parts or PARTS)]
    width = max(1, min(chosen.jobs, len(names)))
    shutil.rmtree(REPORTS, ignore_errors=True)
    REPORTS.mkdir(parents=True)
    before = checkout_status()
    had_validator = VALIDATOR.exists()
    subprocess.run([sys.executable, "-B", "-m", "gosudacon.schema.compiler"], cwd=CHECKOUT, check=True)
    parts = Parts(chosen.pytest, SLOWNESS if width > 1 else 1)
    try:
        found = Runner(width, REPORTS, ENVIRONMENT, CHECKOUT).run({name: getattr(parts, name) for name in names})
    except KeyboardInterrupt:
        return 130
    finally:
        if not had_validator:
            VALIDATOR.unlink(missing_ok=True)
    results = [result for name in PARTS for result in found.get(name, [])]
    results.append(check_checkout(before))
    print(f"\n{(time.monotonic() - start) / 60:.0f} minutes")
    return report(results, complete=not chosen.parts)


if __name__ == "__main__":
    sys.exit(main())
