"""The parts of a test run: what each of them runs, and where it takes its results from."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
import threading
from pathlib import Path

from tools import debian_root, newer_containerd
from tools.environments import make_venv, newest_python
from tools.results import Result, from_elsewhere, read_report, second_report
from tools.side_by_side import Job

CHECKOUT = Path(__file__).resolve().parents[1]
CACHE = CHECKOUT / ".test-cache"
REPORTS = CACHE / "reports"
PREFIX = CACHE / "prefix"

ENVIRONMENT = {
    "PIP_CACHE_DIR": str(CACHE / "pip"),
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "RUFF_CACHE_DIR": str(CACHE / "ruff"),
    "MYPY_CACHE_DIR": str(CACHE / "mypy"),
    "GOSUDACON_TEST_REPORTS": str(REPORTS),
}
"""What every part gets on top of the caller's environment."""

LONGEST_FIRST = ("vm", "debian13", "kernel", "security", "clients", "containerd2", "unit", "package", "newest", "lint")
"""All parts in the order in which they are started, so that the end is not spent waiting for one of them."""
ONCE_IS_ENOUGH = (
    *("tests/kernel/test_faults.py", "tests/kernel/test_cni_faults.py", "tests/kernel/test_network_faults.py"),
    *("tests/kernel/test_leniency.py", "tests/security/test_propagation.py"),
    *("tests/clients/test_shim_points.py", "tests/clients/test_pages.py", "tests/clients/test_docs_site.py"),
)
"""Long tests of what no release of Debian's changes, and those of the browser: Debian 13's root does without them."""
SECOND_TRIES = 3
"""Up to so many failed tests of a part are run once more; the report names those that pass then."""
TESTS_FAILED = "exit status 1"
"""What pytest ends with when tests have failed and nothing else is wrong."""
OF_CONTAINERD = (
    *("shim_alone", "shim_start", "shim_rootfs", "shim_checkpoint", "shim_survival"),
    *("containerd", "containerd_exec", "cri", "integration", "kubernetes", "docker_life", "docker_remap"),
)
"""The files of tests/clients that run again with containerd 2.x and our shim."""
OF_OUR_SHIM = "not runc or user_namespace"
"""Which of their tests: those with our shim, and with runc's what no other part can run."""
IN_DEBIAN_13 = ("kernel", "security", "clients", "unit")


class Parts:
    """The parts; each is a method that returns its results. Several may run at a time."""

    def __init__(self, options: list[str], slowness: float = 1) -> None:
        self.options = options
        self.slowness = slowness * float(os.environ.get("GOSUDACON_TEST_SLOWNESS") or 1)
        self._lock = threading.Lock()
        self._python: Path | None = None
        self._program: Path | None = None

    def lint(self, job: Job) -> list[Result]:
        """ruff, mypy and the rules of the layers."""
        tools = self._tools(job).parent
        checks = {
            "ruff check": [str(tools / "ruff"), "check"],
            "ruff format": [str(tools / "ruff"), "format", "--check"],
            "mypy": [str(tools / "mypy")],
            "import layers": [str(tools / "lint-imports"), "--cache-dir", str(CACHE / "import_linter")],
        }
        return [job.timed(name, words) for name, words in checks.items()]

    def unit(self, job: Job) -> list[Result]:
        """The unit tests on this interpreter."""
        return [self._pytest(job, "unit", "tests/unit", 900)]

    def newest(self, job: Job) -> list[Result]:
        """The unit tests on the newest CPython of the machine, if it is newer than this and Debian 13's."""
        python, version = newest_python()
        known = max(sys.version_info[:2], debian_root.PYTHON)
        if version <= known:
            return [Result("unit, newest Python", True, 0, f"no CPython newer than {known[0]}.{known[1]} here")]
        name = f"{version[0]}.{version[1]}"
        inside = make_venv(job, str(python), CACHE / f"venv-{name}", "test,network")
        return [self._pytest(job, f"unit, Python {name}", "tests/unit", 900, python=inside)]

    def kernel(self, job: Job) -> list[Result]:
        """Stages and the life of containers against this machine's kernel."""
        return [self._pytest(job, "kernel", "tests/kernel", 1500, self._installed(job))]

    def security(self, job: Job) -> list[Result]:
        """The known attacks."""
        return [self._pytest(job, "security", "tests/security", 1500, self._installed(job))]

    def clients(self, job: Job) -> list[Result]:
        """Real clients with the installed launcher."""
        return [self._pytest(job, "clients", "tests/clients", 1500, self._installed(job))]

    def containerd2(self, job: Job) -> list[Result]:
        """containerd 2.x and Docker of a newer Debian, with the shim of our own."""
        programs = newer_containerd.make(job, CACHE / "containerd-2")
        environment = {
            **self._installed(job),
            "PATH": f"{programs}:{os.environ['PATH']}",
            "GOSUDACON_TEST_PROGRAMS": programs,
        }
        files = [f"tests/clients/test_{name}.py" for name in OF_CONTAINERD]
        return [self._pytest(job, "containerd2", files, 600, environment, options=["-k", OF_OUR_SHIM])]

    def package(self, job: Job) -> list[Result]:
        """Wheel, sdist and the Debian package, the last in fresh roots of Debian 12 and of Debian 13."""
        roots = CACHE / "roots"
        roots.mkdir(exist_ok=True)
        for suite in debian_root.SUITES:
            debian_root.unpack(job, roots / suite, suite, debian_root.dependencies())
        return [self._pytest(job, "package", "tests/package", 600, {"GOSUDACON_TEST_ROOTS": str(roots)})]

    def vm(self, job: Job) -> list[Result]:
        """The marked tests again in virtual machines; their reports count as parts of their own."""
        outer = self._pytest(job, "vm", "tests/vm", 2400, self._installed(job), options=["-s"])
        return [outer, *from_elsewhere(REPORTS, "vm_in_*.xml", "vm")]

    def debian13(self, job: Job) -> list[Result]:
        """kernel, security, clients and unit in a root of Debian 13's, on this machine's kernel."""
        if debian_root.is_this():
            return [Result("debian13", True, 0, "this is Debian 13, or newer")]
        root = debian_root.make(job, CACHE / "debian13")
        options = [*self.options, *(f"--ignore={file}" for file in ONCE_IS_ENOUGH)]
        words = ["tools/test", "--jobs=1", *(f"--pytest={option}" for option in options), *IN_DEBIAN_13]
        extra = {"LANG": "C.UTF-8", **self._patience()}
        outer = job.timed("debian13", debian_root.inside(root, words), 2400 * self.slowness, extra)
        return [outer, *from_elsewhere(debian_root.reports(root), "*.xml", "debian13")]

    def _tools(self, job: Job) -> Path:
        """The interpreter of the virtual environment with the tools, made when first wanted."""
        with self._lock:
            if self._python is None:
                self._python = make_venv(job, sys.executable, CACHE / "venv", "test,network,site")
        return self._python

    def _installed(self, job: Job) -> dict[str, str]:
        """What makes tests use the installed launcher, for which there is an environment of its own."""
        with self._lock:
            if self._program is None:
                shutil.rmtree(PREFIX, ignore_errors=True)
                python = make_venv(job, sys.executable, CACHE / "installed", "network", keep=True)
                job.run([str(python.parent / "gosudacon"), "install", "--prefix", str(PREFIX)])
                self._program = PREFIX / "bin/gosudacon"
        return {"GOSUDACON": str(self._program)}

    def _patience(self) -> dict[str, str]:
        """What stretches the tests' limits where other parts take their share of the machine."""
        return {"GOSUDACON_TEST_SLOWNESS": f"{self.slowness:g}"}

    def _pytest(
        self,
        job: Job,
        name: str,
        folder: str | list[str],
        limit: float,
        environment: dict[str, str] | None = None,
        *,
        options: list[str] | None = None,
        python: Path | None = None,
    ) -> Result:
        """Run pytest on a folder, or on files; ``limit`` is in seconds of a machine that does nothing else."""
        report = REPORTS / f"{re.sub(r'[^a-z0-9.]+', '_', name.lower())}.xml"
        words = [str(python or self._tools(job)), "-B", "-m", "pytest", *(options or []), *self.options]
        words += [folder] if isinstance(folder, str) else folder
        words += ["-o", f"cache_dir={CACHE / 'pytest' / report.stem}"]
        extra = {**self._patience(), **(environment or {})}

        def run(what: str, target: Path, *more: str) -> Result:
            # A folder of its own: pytest's shared one is emptied by whatever other session of pytest ends first.
            with tempfile.TemporaryDirectory(prefix="gt-", ignore_cleanup_errors=True) as scratch:
                every = [*words, f"--basetemp={scratch}/t", f"--junitxml={target}", *more]
                return job.timed(what, every, limit * self.slowness, extra)

        result = run(name, report)
        result.cases = read_report(report)
        if 0 < result.count("failed") <= SECOND_TRIES and result.note == TESTS_FAILED:
            second = run(f"{name}, what failed once more", second_report(report), "--last-failed")
            result.cases = read_report(report)
            if second.passed and not result.count("failed"):
                result.passed, result.note = True, "some at the second try, named below"
            result.seconds += second.seconds
        if not result.cases:
            result.passed = False
            result.note = result.note or "no test was run"
        return result
