"""``gosudacon install`` and what it installs: launcher, script, builds; and that ``uninstall`` leaves nothing."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gosudacon.base import layout
from gosudacon.cli import options as table
from gosudacon.launcher import program
from tests.support.bundle import Bundle
from tests.support.installation import Installation
from tests.support.needs import needs
from tests.support.runtime import Runtime
from tests.support.shell import complete

PYTHON = os.path.realpath(sys.executable)
SCRIPT_OF_PIP = "#!/x/python3\nimport sys\nfrom gosudacon.__main__ import main\nsys.exit(main())\n"


@pytest.fixture
def installation(scratch: Path) -> Installation:
    """The package without the launcher, not installed yet."""
    return Installation(scratch, launcher=False)


@pytest.fixture
def with_launcher(scratch: Path) -> Installation:
    """The package with the launcher, not installed yet."""
    return Installation(scratch)


def _probe(installation: Installation, code: str) -> None:
    """Install a command that runs ``code`` in place of most command lines."""
    main = installation.package / "cli/main.py"
    main.rename(main.with_name("real_main.py"))
    lines = (
        "from gosudacon.cli import real_main",
        "from gosudacon.cli.real_main import options_of, root_of",
        "def main(argv):",
        "    if '--version' in argv or 'install' in argv: return real_main.main(argv)",
        f"    {code}",
        "    return 7",
        "",
    )
    main.write_text("\n".join(lines))
    installation.install()


SHIM = "containerd-shim-gosudacon-v1"


def _builds(installation: Installation) -> set[Path]:
    return set((installation.prefix / "lib/gosudacon").iterdir())


def _build(installation: Installation) -> Path:
    """The one build that there is."""
    (build,) = _builds(installation)
    return build


@needs("compiler")
def test_launcher(with_launcher: Installation, bundle: Bundle, runtime: Runtime) -> None:
    result = with_launcher.install()
    assert f"{with_launcher.command} (launcher), for {PYTHON}" in result.stdout
    assert program.is_launcher(with_launcher.command.read_bytes())
    status = with_launcher.command.stat()
    assert (status.st_mode & 0o7777, status.st_uid) == (0o755, 0)
    bundle.set("process.args", ["/bin/echo", "hello"])
    installed = Runtime([str(with_launcher.command)], runtime.root)
    assert installed.output(bundle) == "hello\n"


def test_script(installation: Installation, bundle: Bundle, runtime: Runtime) -> None:
    result = installation.install()
    assert "without a C compiler" in result.stdout
    assert installation.command.read_text().startswith(f"#!{PYTHON} -ISBXutf8\n")
    bundle.set("process.args", ["/bin/echo", "hello"])
    assert Runtime([str(installation.command)], runtime.root).output(bundle) == "hello\n"


def test_uninstall_leaves_nothing(installation: Installation) -> None:
    before = sorted(installation.package.rglob("*.py"))
    installation.install()
    installation.install("--name", "other")
    assert installation.uninstall().returncode == 0
    assert (installation.prefix / "bin/other").exists()
    assert _build(installation).name.startswith("other.")
    assert installation.uninstall("--name", "other").returncode == 0
    assert not installation.prefix.exists()
    assert sorted(installation.package.rglob("*.py")) == before
    assert installation.uninstall().returncode == 1


def test_uninstall_removes_empty_root(installation: Installation, scratch: Path) -> None:
    """Uninstall removes the directory of states if it is empty."""
    root = scratch / "root"
    for state, left in ((root / "one", True), (root, False)):
        installation.install()
        state.mkdir(parents=True)
        assert installation.call("--root", root, "uninstall", "--prefix", installation.prefix).returncode == 0
        assert root.exists() == left
        shutil.rmtree(root, ignore_errors=True)


def test_uninstall_keeps_folders(installation: Installation) -> None:
    """Directories that were there stay, empty or not, and so do those in which others have put something."""
    (installation.prefix / "bin").mkdir(parents=True)
    installation.install()
    installation.install()  # the note of the first one counts
    (installation.prefix / "share/man/man8/other.8").write_text("x")
    assert installation.uninstall().returncode == 0
    left = {str(path.relative_to(installation.prefix)) for path in installation.prefix.rglob("*")}
    assert left == {"bin", "share", "share/man", "share/man/man8", "share/man/man8/other.8"}


def test_uninstall_clears_the_cache(installation: Installation, runtime: Runtime, bundle: Bundle) -> None:
    """Once no other installation uses it."""
    cache = Path(layout.CACHE)
    shutil.rmtree(cache, ignore_errors=True)
    for name in ("gosudacon", "other"):
        installation.install("--name", name)
        command = Runtime([str(installation.prefix / "bin" / name)], runtime.root)
        bundle.set("process.args", ["true"])
        bundle.set("linux.seccomp", {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []})
        command.run(bundle)
    assert list(cache.glob("stages-*.json"))
    assert installation.run("uninstall", "--prefix", installation.prefix).returncode == 0
    assert list(cache.glob("stages-*.json"))
    other = Runtime([str(installation.prefix / "bin/other")], runtime.root)
    assert other.call("uninstall", "--prefix", installation.prefix, "--name", "other").returncode == 0
    assert not cache.exists()


def test_uninstall_names_those_who_run(installation: Installation, runtime: Runtime, bundle: Bundle) -> None:
    installation.install()
    command = Runtime([str(installation.command)], runtime.root)
    command.boot(bundle)
    result = command.call("uninstall", "--prefix", installation.prefix)
    assert result.stderr.count("containers still run: ") == 1 and bundle.id in result.stderr
    installation.install()
    command.delete(bundle, "--force")
    result = command.call("uninstall", "--prefix", installation.prefix)
    assert result.stderr == ""


def test_man_pages_and_completions(installation: Installation) -> None:
    installation.install("--name", "other-one")
    installation.install("--name", "other")
    share = installation.prefix / "share"
    pages = {path.name for path in (share / "man/man8").iterdir()}
    expected = {"other.8", *(f"other-{command}.8" for command in table.every())}
    assert expected | {"other-one.8", "other-one-create.8"} <= pages
    # An older version's page of a command that there is no more goes; what somebody else wrote stays.
    old = share / "man/man8/other-gone.8"
    old.write_text((share / "man/man8/other.8").read_text())
    mine = share / "man/man8/other-mine.8"
    mine.write_text(".TH MINE 8\n")
    installation.install("--name", "other")
    assert not old.exists()
    for place in (
        "bash-completion/completions/other",
        "zsh/site-functions/_other",
        "fish/vendor_completions.d/other.fish",
    ):
        text = (share / place).read_text()
        assert str(installation.prefix / "bin/other") in text
        assert stat.S_IMODE((share / place).stat().st_mode) == 0o644
    assert installation.uninstall("--name", "other").returncode == 0
    left = {path.name for path in share.rglob("*") if path.is_file()}
    assert {name for name in left if not name.startswith(("other-one", "_other-one"))} == {"other-mine.8"}
    assert {"other-one.8", "_other-one", "other-one.fish"} <= left


def test_programs_only(installation: Installation) -> None:
    """For a package that has the other files; those of an installation before go."""
    installation.install()
    assert (installation.prefix / "lib/tmpfiles.d/gosudacon.conf").exists()
    installation.install("--programs-only")
    left = {str(path.relative_to(installation.prefix)) for path in installation.prefix.rglob("*") if path.is_file()}
    assert {path for path in left if not path.startswith("lib/gosudacon/")} == {"bin/gosudacon"}
    assert installation.run("--version").returncode == 0
    assert installation.uninstall().returncode == 0
    assert not installation.prefix.exists()


@needs("program:fish")
def test_the_installed_completion_knows_the_containers(
    installation: Installation, bundle: Bundle, runtime: Runtime, scratch: Path
) -> None:
    installation.install()
    runtime.boot(bundle)
    script = (installation.prefix / "share/fish/vendor_completions.d/gosudacon.fish").read_text()
    assert complete("fish", script, f"gosudacon --root {runtime.root} state ", scratch) == [bundle.id]


def test_a_page_that_is_not_ours_stays(installation: Installation) -> None:
    page = installation.prefix / "share/man/man8/gosudacon-create.8"
    page.parent.mkdir(parents=True)
    page.write_text(".TH MINE 8\n")
    result = installation.install(check=False)
    assert (result.returncode, "is not gosudacon's" in result.stderr) == (1, True)
    assert page.read_text() == ".TH MINE 8\n"
    assert not installation.command.exists()


def test_installing_again_keeps_one_build_before(installation: Installation) -> None:
    """What is installed does not change with the package; the next installation takes its place at once."""
    installation.install()
    first = _build(installation)
    (installation.package / "__init__.py").write_text('__version__ = "9.9.9"\n')
    assert "9.9.9" not in installation.run("--version").stdout
    installation.install()
    assert "9.9.9" in installation.run("--version").stdout
    assert first in _builds(installation) and len(_builds(installation)) == 2
    installation.install()
    assert first not in _builds(installation) and len(_builds(installation)) == 2
    assert {path.name for path in installation.command.parent.iterdir()} <= {"gosudacon", SHIM}


@needs("compiler")
def test_a_build_in_use_stays(with_launcher: Installation) -> None:
    """A process that was started from it may import more of it, however many installations later."""
    read, write = os.pipe()
    late = "from gosudacon.container import ps; import rich.console, jsonschema.validators; print(ps.__file__)"
    _probe(with_launcher, f"posix = __import__('posix'); posix.read(0, 1); {late}")
    first = _build(with_launcher)
    with subprocess.Popen([with_launcher.command], stdin=read, stdout=subprocess.PIPE, text=True) as running:
        for _ in range(3):
            with_launcher.install()
        shutil.rmtree(with_launcher.package)
        os.write(write, b"x")
        output = running.communicate()[0]
    os.close(read)
    os.close(write)
    assert (output, running.returncode) == (f"{first}/packages/gosudacon/container/ps.py\n", 7)


@needs("compiler")
def test_build_is_complete(with_launcher: Installation) -> None:
    """Every module of ours can be imported without the package, and so can what they need of others."""
    paths = (path.relative_to(with_launcher.package).with_suffix("") for path in with_launcher.package.rglob("*.py"))
    apart = {"__main__", "loader", "recover", "encoding", "cli", "testing"}
    # The probe takes the place of cli/main.py, on which the other modules of cli/ stand; testing is pytest's.
    names = [".".join(path.parts) for path in paths if not apart & {path.name, path.parts[0]}]
    code = (
        f"import importlib, sys; [importlib.import_module(f'gosudacon.{{name}}') for name in {names!r}]; "
        "from importlib.resources import files; files('gosudacon.schema').joinpath('config.schema.json').read_text(); "
        "places = {getattr(module, '__file__', None) for module in [*sys.modules.values()]}; "
        "print(*sorted(place for place in places if place and '-packages/' in place))"
    )
    _probe(with_launcher, code)
    shutil.rmtree(with_launcher.package)
    result = with_launcher.run("x")
    assert (result.returncode, result.stdout, result.stderr) == (7, "\n", "")


def test_a_package_that_is_incomplete_is_not_installed(installation: Installation) -> None:
    """As it is while pip is replacing it."""
    installation.install()
    before = installation.command.read_bytes(), _builds(installation)
    (installation.package / "container/ps.py").unlink()
    result = installation.install(check=False)
    assert (result.returncode, "gosudacon.container.ps" in result.stderr) == (1, True)
    assert (installation.command.read_bytes(), _builds(installation)) == before


def test_installed_command_installs(installation: Installation) -> None:
    """It has a copy of the old one, which is not what an administrator wants after an upgrade."""
    installation.install()
    (installation.package / "__init__.py").write_text('__version__ = "9.9.9"\n')
    result = installation.run("install", "--prefix", installation.prefix)
    assert (result.returncode, result.stderr) == (0, "")
    assert "9.9.9" in installation.run("--version").stdout
    shutil.rmtree(installation.package)
    assert installation.run("install", "--prefix", installation.prefix).returncode == 0
    assert "9.9.9" in installation.run("--version").stdout


def test_files_of_the_first_format_go(installation: Installation) -> None:
    """What version 0.1.0 has installed."""
    directory = installation.prefix / "lib/gosudacon"
    (directory / "gosudacon.cpython-311.home").mkdir(parents=True)
    for name in ("gosudacon.cpython-311.pyc", "gosudacon.cpython-311.pyc.0123456789abcdef", "other.cpython-311.pyc"):
        (directory / name).touch()
    installation.install()
    left = sorted(path.name.partition(".")[0] for path in _builds(installation))
    assert left == ["gosudacon", "other"]
    assert (directory / "other.cpython-311.pyc").exists()


def test_a_file_that_is_not_ours_stays(installation: Installation) -> None:
    installation.command.parent.mkdir(parents=True)
    installation.command.write_text("#!/bin/sh\necho mine\n")
    result = installation.install(check=False)
    assert result.returncode == 1
    assert "is not gosudacon's" in result.stderr
    assert installation.uninstall().returncode == 1
    assert "echo mine" in installation.command.read_text()
    assert not (installation.prefix / "lib").exists()


def test_the_script_of_pip_is_replaced(installation: Installation) -> None:
    installation.command.parent.mkdir(parents=True)
    installation.command.write_text(SCRIPT_OF_PIP)
    installation.install()
    assert program.is_script(installation.command.read_bytes())


def test_a_command_that_does_not_work_is_not_installed(installation: Installation) -> None:
    installation.install()
    good = installation.command.read_bytes(), _builds(installation)
    (installation.package / "cli/version.py").write_text("raise RuntimeError('broken')\n")
    result = installation.install(check=False)
    assert result.returncode == 1
    assert "does not work" in result.stderr
    assert (installation.command.read_bytes(), _builds(installation)) == good
    assert {path.name for path in installation.command.parent.iterdir()} <= {"gosudacon", SHIM}


@pytest.mark.parametrize("name", ["", ".", "../x", "a/b", "a b", "x\n"])
def test_names_that_are_none(name: str, installation: Installation) -> None:
    result = installation.install(f"--name={name}", check=False)
    if name:
        assert (result.returncode, "invalid name" in result.stderr) == (1, True)
        assert not installation.prefix.exists()


@pytest.mark.parametrize("place", [".", "linux", "linux/abi.py", ".."])
@pytest.mark.parametrize("mode", [0o020, 0o002])
def test_a_package_that_others_can_write_to_is_refused(place: str, mode: int, installation: Installation) -> None:
    path = installation.package / place
    path.chmod(path.stat().st_mode | mode)
    result = installation.install(check=False)
    assert result.returncode == 1
    assert "can be written to" in result.stderr
    assert not installation.prefix.exists()


def test_a_package_of_another_user_is_refused(installation: Installation) -> None:
    os.chown(installation.package / "cli", 12345, 0)
    result = installation.install(check=False)
    assert (result.returncode, "belongs to user 12345" in result.stderr) == (1, True)


def test_a_package_that_becomes_writable_is_not_run(installation: Installation) -> None:
    installation.install()
    (_build(installation) / "packages/gosudacon").chmod(0o775)
    result = subprocess.run([installation.command, "--version"], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (1, "")
    assert "refusing" in result.stderr


@needs("compiler")
def test_what_the_launcher_passes_on(with_launcher: Installation) -> None:
    """Arguments, environment, descriptors and umask are the caller's."""
    code = (
        "import posix, sys; old = posix.umask(0); "
        "print(ascii(argv), ascii(posix.environ), posix.listdir('/proc/self/fd'), oct(old), sys.flags.isolated)"
    )
    _probe(with_launcher, code)
    read, write = os.pipe()
    words = ["a b", "", "--", b"\xff".decode(errors="surrogateescape"), "ä", *["x"] * 5000]
    environment = {b"LC_ALL": b"C", b"A": b"\xff", b"PYTHONPATH": b"/none"}
    result = subprocess.run(
        [str(with_launcher.command), *words],
        capture_output=True,
        text=True,
        env=environment,
        pass_fds=[read],
        umask=0o137,
        stdin=subprocess.DEVNULL,
    )
    os.close(read)
    os.close(write)
    assert result.returncode == 7, result.stderr
    expected = f"{words!a} {environment!a} "
    assert result.stdout.startswith(expected)
    descriptors, rest = result.stdout[len(expected) :].split("]")
    assert rest == " 0o137 1\n"
    numbers = {int(word) for word in re.findall(r"\d+", descriptors)}
    assert {0, 1, 2, read} < numbers
    assert len(numbers) == 5  # one is that of the listing


@needs("compiler")
def test_the_archive_is_used(with_launcher: Installation) -> None:
    code = (
        "import sys; print(*(name for name, module in sys.modules.items() "
        "if type(getattr(module, '__loader__', 0)).__name__ == 'Loader'))"
    )
    _probe(with_launcher, code)
    names = with_launcher.run("x").stdout.split()
    assert {"gosudacon.__main__", "gosudacon.cli", "gosudacon.cli.main"} <= {*names}


_START = (
    "import codecs, encodings, sys; "
    "print(encodings.__file__, [*map(ascii, (sys.executable, sys.prefix, sys.base_prefix))], "
    "sys.path, 'ä'.encode('idna'), codecs.getreader('utf-8').__name__, codecs.lookup('cp500').name, "
    "encodings.normalize_encoding('a b'), encodings.aliases.__name__, sep='|')"
)


@needs("compiler")
def test_startup_directory(with_launcher: Installation) -> None:
    """The library, its codecs and what `sys` says are the same with it, without it, and where it is broken."""
    _probe(with_launcher, _START)
    home = _build(with_launcher) / "startup"

    def start() -> list[str]:
        done = subprocess.run([with_launcher.command, "x"], capture_output=True, text=True)
        assert done.stderr == ""
        return done.stdout.split("|")

    at_home = start()
    assert at_home[0] == f"{home}/encodings.pyc"
    assert str(home) not in at_home[2]
    (home / f"{Path(PYTHON).name}._pth").unlink()
    assert start()[1:3] == at_home[1:3]
    shutil.rmtree(home)
    away = start()
    assert away[0].endswith("/encodings/__init__.py")
    assert [away[1], away[2], away[3], *away[5:]] == [at_home[1], at_home[2], at_home[3], *at_home[5:]]


@needs("compiler")
def test_no_codec_is_looked_for_without_finders(with_launcher: Installation) -> None:
    """Behind the wall the library's directory is the container's: nothing may be read from it."""
    lines = (
        "import codecs, sys",
        "sys.meta_path[:] = []",
        "for name in ('utf-8', 'UTF_8', 'latin-1', 'idna'):",
        "    try:",
        "        print(codecs.lookup(name).name)",
        "    except LookupError:",
        "        print('none')",
        "print(hasattr(sys.modules['encodings'], 'normalize_encoding'))",
    )
    _probe(with_launcher, "\n    ".join(lines))
    result = subprocess.run([with_launcher.command], capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("utf-8\nutf-8\nnone\nnone\nFalse\n", "")


@needs("compiler")
def test_the_shim_goes_with_the_command(with_launcher: Installation) -> None:
    with_launcher.install()
    shim = with_launcher.command.with_name(SHIM)
    result = subprocess.run([shim, "-v"], capture_output=True, text=True, check=True)
    assert result.stdout.startswith(f"{SHIM}:\n  Version: ")
    with_launcher.install("--name", "other")
    assert shim.with_name("containerd-shim-other-v1").exists()
    assert with_launcher.uninstall("--name", "other").returncode == 0
    assert not shim.with_name("containerd-shim-other-v1").exists()
    assert shim.exists()


def test_a_shim_that_is_not_ours_stays(installation: Installation) -> None:
    shim = installation.command.with_name(SHIM)
    shim.parent.mkdir(parents=True)
    shim.write_text("mine")
    result = installation.install(check=False)
    assert (result.returncode, "is not gosudacon's" in result.stderr) == (1, True)
    assert shim.read_text() == "mine" and not installation.command.exists()
