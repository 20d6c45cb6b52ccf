"""``gosudacon install`` and what it installs: launcher, script, bundle; and that ``uninstall`` leaves nothing."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gosudacon.cli import options as table
from gosudacon.launcher import image
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
    """Let the installed command run ``code`` in place of the command line, its bundle as good as ever."""
    (installation.package / "cli/main.py").write_text(f"def main(argv):\n    {code}\n    return 7\n")


@needs("compiler")
def test_launcher(with_launcher: Installation, bundle: Bundle, runtime: Runtime) -> None:
    result = with_launcher.install()
    assert f"{with_launcher.command} (launcher), for {PYTHON}" in result.stdout
    assert image.is_launcher(with_launcher.command.read_bytes())
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
    assert len(list((installation.prefix / "lib/gosudacon").iterdir())) == 2
    assert installation.uninstall("--name", "other").returncode == 0
    assert [path for path in installation.prefix.rglob("*") if not path.is_dir()] == []
    assert sorted(installation.package.rglob("*.py")) == before
    assert installation.uninstall().returncode == 1


def test_uninstall_removes_the_directory_of_states_if_it_is_empty(installation: Installation, scratch: Path) -> None:
    root = scratch / "root"
    for state, left in ((root / "one", True), (root, False)):
        installation.install()
        state.mkdir(parents=True)
        assert installation.call("--root", root, "uninstall", "--prefix", installation.prefix).returncode == 0
        assert root.exists() == left
        shutil.rmtree(root, ignore_errors=True)


def test_man_pages_and_completions(installation: Installation) -> None:
    installation.install("--name", "other-one")
    installation.install("--name", "other")
    share = installation.prefix / "share"
    pages = {path.name for path in (share / "man/man8").iterdir()}
    expected = {"other.8", *(f"other-{command}.8" for command in table.COMMANDS)}
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


def test_installing_again_replaces_the_bundle(installation: Installation) -> None:
    installation.install()
    first = set((installation.prefix / "lib/gosudacon").iterdir())
    (installation.package / "__init__.py").write_text('__version__ = "9.9.9"\n')
    assert "9.9.9" in subprocess.run([installation.command, "--version"], capture_output=True, text=True).stdout
    installation.install()
    second = set((installation.prefix / "lib/gosudacon").iterdir())
    assert len(second) == 2
    assert second != first
    assert sorted(path.name for path in installation.command.parent.iterdir()) == ["gosudacon"]


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
    assert image.is_script(installation.command.read_bytes())


def test_a_command_that_does_not_work_is_not_installed(installation: Installation) -> None:
    installation.install()
    good = installation.command.read_bytes(), set((installation.prefix / "lib/gosudacon").iterdir())
    (installation.package / "cli/version.py").write_text("raise RuntimeError('broken')\n")
    result = installation.install(check=False)
    assert result.returncode == 1
    assert "does not work" in result.stderr
    assert installation.command.read_bytes() == good[0]
    assert sorted(path.name for path in installation.command.parent.iterdir()) == ["gosudacon"]


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


def test_a_package_of_somebody_else_is_refused(installation: Installation) -> None:
    os.chown(installation.package / "cli", 12345, 0)
    result = installation.install(check=False)
    assert (result.returncode, "belongs to user 12345" in result.stderr) == (1, True)


def test_a_package_that_becomes_writable_is_not_run(installation: Installation) -> None:
    installation.install()
    installation.package.chmod(0o775)
    result = subprocess.run([installation.command, "--version"], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (1, "")
    assert "refusing" in result.stderr


@needs("compiler")
def test_interpreter_or_package_gone(with_launcher: Installation, scratch: Path) -> None:
    with_launcher.install()
    plain = (with_launcher.package / "launcher/launcher").read_bytes()
    entry = next((with_launcher.prefix / "lib/gosudacon").glob("*.pyc"))
    for name, paths, text in (
        ("no-python", ("/none/python3", str(entry)), "cannot start the interpreter /none/python3: no such file"),
        ("no-entry", (PYTHON, "/none/entry.pyc"), "cannot read /none/entry.pyc: no such file"),
    ):
        command = scratch / name
        command.write_bytes(image.patch(plain, *paths))
        command.chmod(0o755)
        result = subprocess.run([command, "--version"], capture_output=True, text=True)
        assert (result.returncode, result.stdout) == (1, "")
        assert text in result.stderr
        assert len(result.stderr.splitlines()) == 1
    shutil.rmtree(with_launcher.package)
    result = subprocess.run([with_launcher.command, "--version"], capture_output=True, text=True)
    assert result.returncode == 1
    assert "the package is gone" in result.stderr


@needs("compiler")
def test_what_the_launcher_passes_on(with_launcher: Installation) -> None:
    """Arguments, environment, descriptors and umask are the caller's."""
    with_launcher.install()
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
def test_the_bundle_is_used_and_checked(with_launcher: Installation) -> None:
    """A module comes from the bundle while its source is unchanged, and from the source when it is not."""
    with_launcher.install()
    code = (
        "import sys; print(*(name for name, module in sys.modules.items() "
        "if type(getattr(module, '__loader__', 0)).__name__ == 'Loader'))"
    )
    _probe(with_launcher, code)
    names = subprocess.run([with_launcher.command], capture_output=True, text=True).stdout.split()
    assert "gosudacon.__main__" in names
    assert "gosudacon.cli" in names
    assert "gosudacon.cli.main" not in names


@needs("compiler")
def test_a_running_command_survives_the_loss_of_its_bundle(with_launcher: Installation) -> None:
    with_launcher.install()
    data = str(with_launcher.prefix / "lib/gosudacon/*.pyc.*")
    _probe(
        with_launcher,
        f"import glob, os; os.unlink(*glob.glob({data!r})); "
        "from gosudacon.container import state; print(state.__name__)",
    )
    result = subprocess.run([with_launcher.command], capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("gosudacon.container.state\n", "")


_START = (
    "import codecs, encodings, sys; "
    "print(encodings.__file__, [*map(ascii, (sys.executable, sys.prefix, sys.base_prefix))], "
    "sys.path, 'ä'.encode('idna'), codecs.getreader('utf-8').__name__, codecs.lookup('cp500').name, "
    "encodings.normalize_encoding('a b'), encodings.aliases.__name__, sep='|')"
)


@needs("compiler")
def test_the_home_changes_nothing_but_the_time_of_a_start(with_launcher: Installation) -> None:
    """The library, its codecs and what `sys` says are the same with it, without it, and where it is broken."""
    with_launcher.install()
    (home,) = (with_launcher.prefix / "lib/gosudacon").glob("*.home")
    _probe(with_launcher, _START)

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
def test_installing_with_the_launcher_and_removing_it(with_launcher: Installation) -> None:
    with_launcher.install()
    directory = with_launcher.prefix / "lib/gosudacon"
    first = {path: path.stat().st_ino for path in directory.glob("*.home")}
    with_launcher.install()
    assert {path: path.stat().st_ino for path in directory.glob("*.home")} == first
    assert len(list(directory.iterdir())) == 3
    assert with_launcher.uninstall().returncode == 0
    assert not directory.exists()


@needs("compiler")
def test_no_codec_is_looked_for_without_finders(with_launcher: Installation) -> None:
    """Behind the wall the library's directory is the container's: nothing may be read from it."""
    with_launcher.install()
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
