"""Run the checks and the tests, each part in a process of its own, and sum up; called by tools/test."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
CACHE = CHECKOUT / ".test-cache"
REPORTS = CACHE / "reports"
PREFIX = CACHE / "prefix"
VALIDATOR = CHECKOUT / "schema/_validator.py"
"""Made when the package is built; the checkout that is tested needs it as well."""

ENVIRONMENT = {
    "PIP_CACHE_DIR": str(CACHE / "pip"),
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "RUFF_CACHE_DIR": str(CACHE / "ruff"),
    "MYPY_CACHE_DIR": str(CACHE / "mypy"),
    "GOSUDACON_TEST_REPORTS": str(REPORTS),
}
"""What every part gets on top of the caller's environment."""


class Failure(Exception):
    """A part could not even be prepared; the message says why."""


@dataclass
class Result:
    """How a part went; ``cases`` are its tests by name with their outcomes.

    These are passed, failed, skipped, and unmet: skipped for a need that another machine may meet.
    """

    name: str
    passed: bool
    seconds: float
    note: str = ""
    cases: dict[str, str] = field(default_factory=dict)

    def count(self, outcome: str) -> int:
        """The number of tests with this outcome."""
        wanted = ("skipped", "unmet") if outcome == "skipped" else (outcome,)
        return sum(value in wanted for value in self.cases.values())


# The interpreters.


def make_venv(python: str, target: Path, wanted: list[str], *, keep: bool = False) -> Path:
    """A virtual environment of ``python`` with ``wanted``; the path of its interpreter.

    Our own package is taken out again, so that tests have the checkout's, unless ``keep`` says otherwise.
    """
    inside = target / "bin/python"
    pip = [str(inside), "-m", "pip"]
    if not inside.exists():
        run([python, "-m", "venv", "--clear", str(target)])
    # What an earlier build left would go into the package.
    made = (CHECKOUT / "build", CHECKOUT / "gosudacon.egg-info")
    for path in made:
        shutil.rmtree(path, ignore_errors=True)
    run([*pip, "install", "-q", "--root-user-action=ignore", "--force-reinstall", "--no-deps", "."])
    run([*pip, "install", "-q", "--root-user-action=ignore", *wanted])
    if not keep:
        run([*pip, "uninstall", "-q", "-y", "gosudacon"])
    for path in made:
        shutil.rmtree(path, ignore_errors=True)
    return inside


def version_of(python: Path) -> tuple[int, int]:
    """Major and minor version of a CPython that works, else (0, 0)."""
    code = "import sys, venv, ensurepip; print(sys.implementation.name, *sys.version_info[:2])"
    try:
        result = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return (0, 0)
    match = re.fullmatch(r"cpython (\d+) (\d+)\n", result.stdout)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def newest_python() -> tuple[Path, tuple[int, int]]:
    """The newest CPython on this machine: on PATH, or among pyenv's versions."""
    folders = [Path(name) for name in os.environ.get("PATH", "").split(":") if name]
    found = {
        path for folder in folders for path in folder.glob("python3.*") if re.fullmatch(r"python3\.\d+", path.name)
    }
    roots = {Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv"), Path("/opt/pyenv"), Path("/usr/local/pyenv")}
    for root in roots:
        found = {path for path in found if not path.is_relative_to(root / "shims")}
        found |= set((root / "versions").glob("*/bin/python3"))
    best = max(((version_of(path), path) for path in found), default=((0, 0), Path()))
    return best[1], best[0]


# Running.


def run(words: list[str], limit: float = 900, extra: dict[str, str] | None = None) -> None:
    """Run a command that must succeed within ``limit`` seconds; raises Failure."""
    environment = {**os.environ, **ENVIRONMENT, **(extra or {})}
    try:
        status = subprocess.run(
            words, cwd=CHECKOUT, env=environment, stdin=subprocess.DEVNULL, timeout=limit
        ).returncode
    except subprocess.TimeoutExpired:
        raise Failure(f"{' '.join(words)}: not done after {limit:g} s") from None
    if status != 0:
        raise Failure(f"{' '.join(words)}: exit status {status}")


class Tests:
    """The parts; each is a method that returns its results."""

    def __init__(self, extra: list[str]) -> None:
        self.extra = extra
        self._python: Path | None = None
        self._program: Path | None = None

    @property
    def python(self) -> Path:
        """The interpreter of the virtual environment with the tools, made when first wanted."""
        if self._python is None:
            self._python = make_venv(sys.executable, CACHE / "venv", [".[test,network]"])
        return self._python

    def lint(self) -> list[Result]:
        """ruff, mypy and the rules of the layers."""
        tools = self.python.parent
        checks = {
            "ruff check": [str(tools / "ruff"), "check"],
            "ruff format": [str(tools / "ruff"), "format", "--check"],
            "mypy": [str(tools / "mypy")],
            "import layers": [str(tools / "lint-imports"), "--cache-dir", str(CACHE / "import_linter")],
        }
        return [timed(name, words) for name, words in checks.items()]

    def unit(self) -> list[Result]:
        """The unit tests on this interpreter."""
        return [self._pytest("unit", ["tests/unit"], 900)]

    def newest(self) -> list[Result]:
        """The unit tests on the newest CPython of the machine, if it is newer than this."""
        python, version = newest_python()
        if version <= sys.version_info[:2]:
            return [Result("unit, newest Python", True, 0, f"no CPython newer than {sys.version.split()[0]} here")]
        name = f"unit, Python {version[0]}.{version[1]}"
        inside = make_venv(str(python), CACHE / f"venv-{version[0]}.{version[1]}", [".[test,network]"])
        return [self._pytest(name, ["tests/unit"], 900, python=inside)]

    def kernel(self) -> list[Result]:
        """Stages and the life of containers against this machine's kernel."""
        return [self._pytest("kernel", ["tests/kernel"], 1500, self.installed)]

    def security(self) -> list[Result]:
        """The known attacks."""
        return [self._pytest("security", ["tests/security"], 1500, self.installed)]

    def clients(self) -> list[Result]:
        """Real clients with the installed launcher."""
        return [self._pytest("clients", ["tests/clients"], 1500, self.installed)]

    def vm(self) -> list[Result]:
        """The marked tests again in virtual machines; their reports count as parts of their own."""
        outer = self._pytest("vm", ["tests/vm"], 2400, self.installed, options=["-s"])
        inner = [
            Result(f"vm: {path.stem}", True, 0, cases=read_report(path)) for path in sorted(REPORTS.glob("vm_in_*.xml"))
        ]
        for item in inner:
            item.passed = item.count("failed") == 0
        return [outer, *inner]

    @property
    def installed(self) -> dict[str, str]:
        """What makes tests use the installed launcher, for which there is an environment of its own."""
        if self._program is None:
            shutil.rmtree(PREFIX, ignore_errors=True)
            python = make_venv(sys.executable, CACHE / "installed", [".[network]"], keep=True)
            run([str(python.parent / "gosudacon"), "install", "--prefix", str(PREFIX)])
            self._program = PREFIX / "bin/gosudacon"
        return {"GOSUDACON": str(self._program)}

    def _pytest(
        self,
        name: str,
        folders: list[str],
        limit: float,
        environment: dict[str, str] | None = None,
        *,
        options: list[str] | None = None,
        python: Path | None = None,
    ) -> Result:
        report = REPORTS / f"{re.sub(r'[^a-z0-9.]+', '_', name.lower())}.xml"
        words = [str(python or self.python), "-B", "-m", "pytest", f"--junitxml={report}"]
        words += ["-o", f"cache_dir={CACHE / 'pytest'}", *(options or []), *self.extra, *folders]
        # A folder of its own: pytest's shared one is emptied by whatever other session of pytest ends first.
        with tempfile.TemporaryDirectory(prefix="gt-", ignore_cleanup_errors=True) as scratch:
            result = timed(name, [*words, f"--basetemp={scratch}/t"], limit, environment)
        result.cases = read_report(report)
        if not result.cases:
            result.passed = False
            result.note = result.note or "no test was run"
        return result


def timed(name: str, words: list[str], limit: float = 900, extra: dict[str, str] | None = None) -> Result:
    """Run a command as the part ``name``."""
    print(f"\n=== {name}", flush=True)
    start = time.monotonic()
    try:
        run(words, limit, extra)
    except Failure as error:
        print(error, flush=True)
        return Result(name, False, time.monotonic() - start, str(error).rpartition(": ")[2])
    return Result(name, True, time.monotonic() - start)


# The checkout.


def checkout_status() -> set[str]:
    """What git says of the checkout, ignored files and all, but for ``.test-cache``; nothing without git."""
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


# Summing up.


def read_report(path: Path) -> dict[str, str]:
    """Outcomes by test from a report in JUnit's format; nothing if there is none."""
    cases: dict[str, str] = {}
    if not path.exists():
        return cases
    for case in ElementTree.parse(path).iter("testcase"):
        kinds = {child.tag: child.get("message", "") for child in case}
        outcome = "failed" if kinds.keys() & {"failure", "error"} else "passed"
        if outcome == "passed" and "skipped" in kinds:
            outcome = "unmet" if kinds["skipped"].startswith("needs ") else "skipped"
        name = f"{case.get('classname')}::{case.get('name')}"
        if cases.get(name) != "failed":  # a test can have two entries, when its end fails as well
            cases[name] = outcome
    return cases


def never_run(results: list[Result]) -> list[str]:
    """The tests whose needs were met nowhere."""
    outcomes: dict[str, set[str]] = {}
    for result in results:
        for name, outcome in result.cases.items():
            outcomes.setdefault(name, set()).add(outcome)
    return sorted(name for name, seen in outcomes.items() if seen == {"unmet"})


def report(results: list[Result], complete: bool) -> int:
    """Print the table and the closing line; the exit status.

    In CI a test that no part has run, when all parts were to run, is a failure.
    """
    print(f"\n{'':26}{'passed':>8}{'failed':>8}{'skipped':>8}{'seconds':>9}")
    for result in results:
        counts = [str(result.count(kind)) if result.cases else "" for kind in ("passed", "failed", "skipped")]
        verdict = "ok" if result.passed else "FAILED"
        cells = "".join(f"{count:>8}" for count in counts)
        print(f"{result.name[:25]:26}{cells}{result.seconds:>9.0f}  {verdict}  {result.note}".rstrip())
    idle = never_run(results) if complete else []
    for name in idle:
        print(f"run nowhere: {name}")
    if idle and os.environ.get("CI") == "true":
        results.append(Result("every test somewhere", False, 0, f"{len(idle)} run nowhere"))
    checks = [result for result in results if not result.cases]
    passed = sum(result.count("passed") for result in results) + sum(result.passed for result in checks)
    failed = sum(result.count("failed") for result in results) + sum(not result.passed for result in checks)
    skipped = sum(result.count("skipped") for result in results)
    if not failed and not all(result.passed for result in results):
        failed = 1
    print(f"\n{passed} passed, {failed} failed, {skipped} skipped", flush=True)
    return 0 if all(result.passed for result in results) else 1


PARTS = ("lint", "unit", "newest", "kernel", "security", "clients", "vm")


def main() -> int:
    """Run the chosen parts; the exit status."""
    texts = "\n".join(f"  {name:10}{getattr(Tests, name).__doc__}" for name in PARTS)
    parser = argparse.ArgumentParser(
        "tools/test",
        description=f"Install what the tests need and run them.\n\nparts (default: all):\n{texts}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--no-install", action="store_true", help="take Debian's packages as they are")
    parser.add_argument("--pytest", action="append", default=[], metavar="OPTION", help="pass OPTION on to pytest")
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], metavar="PART")
    chosen = parser.parse_args()
    shutil.rmtree(REPORTS, ignore_errors=True)
    REPORTS.mkdir(parents=True)
    before = checkout_status()
    had_validator = VALIDATOR.exists()
    run([sys.executable, "-B", "-m", "gosudacon.schema.compiler"])
    tests = Tests(chosen.pytest)
    results: list[Result] = []
    for name in PARTS:
        if name in (chosen.parts or PARTS):
            try:
                results += getattr(tests, name)()
            except Failure as error:
                results.append(Result(name, False, 0, str(error)))
    if not had_validator:
        VALIDATOR.unlink(missing_ok=True)
    results.append(check_checkout(before))
    return report(results, complete=not chosen.parts)


if __name__ == "__main__":
    sys.exit(main())
