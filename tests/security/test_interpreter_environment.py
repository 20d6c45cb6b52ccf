"""Nothing in a caller's environment steers the interpreter, and the program sees all of it (docs/launcher.md)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.installation import Installation
from tests.support.needs import missing, needs
from tests.support.runtime import CHECKOUT

pytestmark = needs("root")

PYTHON = os.path.realpath(sys.executable)
LIBRARY = f"lib/python{sys.version_info.major}.{sys.version_info.minor}"
# What a command says in place of its work: everything of the interpreter that a variable could change.
VIEW = """
import _imp, _locale, codecs, io, posix, subprocess, sys
def main(argv):
    if "--version" in argv or "install" in argv:
        from gosudacon.cli import real_main
        return real_main.main(argv)
    print(ascii({
        "flags": repr(sys.flags), "path": sys.path, "prefix": (sys.prefix, sys.base_prefix, sys.platlibdir),
        "executable": sys.executable, "warnings": sys.warnoptions, "pycache": sys.pycache_prefix,
        "digits": sys.get_int_max_str_digits(), "hooks": repr(sys.breakpointhook), "frozen": _imp.is_frozen("os"),
        "stdout": (sys.stdout.encoding, sys.stdout.errors, sys.stdout.line_buffering, sys.stdout.write_through),
        "locale": _locale.setlocale(_locale.LC_ALL), "options": {name for name in sys._xoptions if "gosu" not in name},
        "modules": {"site", "sitecustomize", "tracemalloc", "faulthandler"} & {*sys.modules},
    }), flush=True)
    print(ascii(posix.environ), flush=True)
    if "child" in argv:
        subprocess.run(["/usr/bin/env", "-0"])
    return 7
"""
SIMPLE = {
    "PYTHON_BASIC_REPL": "1",
    "PYTHON_COLORS": "1",
    "PYTHON_CONTEXT_AWARE_WARNINGS": "1",
    "PYTHON_CPU_COUNT": "1",
    "PYTHON_DISABLE_REMOTE_DEBUG": "1",
    "PYTHON_FROZEN_MODULES": "off",
    "PYTHON_GIL": "0",
    "PYTHON_JIT": "1",
    "PYTHON_LAZY_IMPORTS": "all",
    "PYTHON_PATHCONFIG_WARNINGS": "1",
    "PYTHON_PERF_JIT_SUPPORT": "1",
    "PYTHON_PRESITE": "decoy",
    "PYTHON_PYMALLOC_HUGEPAGES": "1",
    "PYTHON_THREAD_INHERIT_CONTEXT": "1",
    "PYTHON_TLBC": "0",
    "PYTHON_UOPS": "1",
    "PYTHONASYNCIODEBUG": "1",
    "PYTHONBREAKPOINT": "decoy.mark",
    "PYTHONCASEOK": "1",
    "PYTHONCOERCECLOCALE": "warn",
    "PYTHONDEBUG": "1",
    "PYTHONDEVMODE": "1",
    "PYTHONDONTWRITEBYTECODE": "",
    "PYTHONDUMPREFS": "1",
    "PYTHONDUMPREFSFILE": "{place}/marker",
    "PYTHONFAULTHANDLER": "1",
    "PYTHONFROZENMODULES": "off",
    "PYTHONHASHSEED": "1",
    "PYTHONHOME": "{place}",
    "PYTHONINSPECT": "1",
    "PYTHONINTMAXSTRDIGITS": "640",
    "PYTHONIOENCODING": "idna:strict",
    "PYTHONMALLOC": "debug",
    "PYTHONMALLOCSTATS": "1",
    "PYTHONNODEBUGRANGES": "1",
    "PYTHONNOUSERSITE": "",
    "PYTHONOPTIMIZE": "2",
    "PYTHONPATH": "{place}",
    "PYTHONPERFSUPPORT": "1",
    "PYTHONPLATLIBDIR": "decoy",
    "PYTHONPROFILEIMPORTTIME": "1",
    "PYTHONPYCACHEPREFIX": "{place}/cache",
    "PYTHONSAFEPATH": "1",
    "PYTHONSTARTUP": "{place}/decoy.py",
    "PYTHONTHREADDEBUG": "1",
    "PYTHONTRACEMALLOC": "5",
    "PYTHONUNBUFFERED": "1",
    "PYTHONUSERBASE": "{place}/user",
    "PYTHONUTF8": "0",
    "PYTHONVERBOSE": "2",
    "PYTHONWARNDEFAULTENCODING": "1",
    "PYTHONWARNINGS": "error::decoy.Mark",
    "PATH": "{place}",
    "HOME": "{place}/user",
    "LANG": "nonsense",
    "LC_ALL": "en_US.ISO-8859-1",
    "LC_CTYPE": "C.UTF-8",
    "LANGUAGE": "de",
    "LOCPATH": "{place}",
    "GCONV_PATH": "{place}",
    "GETCONF_DIR": "{place}",
    "NLSPATH": "{place}",
    "MALLOC_CHECK_": "3",
    "MALLOC_PERTURB_": "1",
    "MALLOC_ARENA_MAX": "1",
    "TMPDIR": "{place}",
    "TZ": ":{place}/decoy.py",
    "SSL_CERT_FILE": "{place}/decoy.py",
}
# These reach the interpreter in spite of -I, or the program loader before it.
STEERING = {
    "PYTHONEXECUTABLE": "{place}/bin/python",
    "__PYVENV_LAUNCHER__": "{place}/bin/python",
    "LD_PRELOAD": "{place}/decoy.so",
    "LD_AUDIT": "{place}/decoy.so",
    "LD_LIBRARY_PATH": "{place}",
    "LD_DEBUG": "files",
    "LD_BIND_NOW": "1",
    "LD_SHOW_AUXV": "1",
    "GLIBC_TUNABLES": "glibc.malloc.perturb=1",
}


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A directory of decoys: whatever looks in it makes ``marker``, or fails."""
    place = Path(tempfile.mkdtemp(prefix="gt-env-", dir="/var/tmp"))
    mark = f"open({str(place / 'marker')!r}, 'w')\n"
    for directory in (place / "bin", place / LIBRARY / "encodings", place / "decoy" / LIBRARY.partition("/")[2]):
        directory.mkdir(parents=True)
    for file in ("decoy.py", "json.py", "sitecustomize.py", f"{LIBRARY}/os.py", f"{LIBRARY}/encodings/__init__.py"):
        (place / file).write_text(f"import posix\nposix.{mark.replace(chr(39) + 'w' + chr(39), '65, 0o600')}")
    (place / "pyvenv.cfg").write_text(f"home = {place}/bin\n")
    (place / "bin/python").symlink_to(PYTHON)
    source = place / "decoy.c"
    source.write_text(
        '#include <fcntl.h>\n__attribute__((constructor)) static void mark(void) { open("%s", O_CREAT, 0600); }\n'
        "unsigned la_version(unsigned version) { mark(); return version; }\n" % (place / "marker")
    )
    if not missing("compiler"):
        subprocess.run(["cc", "-shared", "-fPIC", "-o", place / "decoy.so", source], check=True)
        shutil.copy(place / "decoy.so", place / "libm.so.6")
    yield place
    shutil.rmtree(place)


@pytest.fixture(scope="module", params=["launcher", "script"])
def command(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """An installed command that prints `VIEW`; the word ``run`` lets it be sealed first."""
    if request.param == "launcher" and missing("compiler"):
        pytest.skip("needs compiler")
    directory = Path(tempfile.mkdtemp(prefix="gt-env-", dir="/var/tmp"))
    directory.chmod(0o755)
    installation = Installation(directory, launcher=request.param == "launcher")
    main = installation.package / "cli/main.py"
    main.rename(main.with_name("real_main.py"))
    main.write_text("from gosudacon.cli.real_main import root_of\n" + VIEW)
    installation.install()
    yield [str(installation.command), "run"]
    shutil.rmtree(directory)


def look(command: list[str], environment: dict[bytes, bytes], *words: str) -> tuple[str, str, list[bytes]]:
    """What the interpreter is like, what it says is its environment, and what a ``child`` gets."""
    result = subprocess.run([*command, *words], env=environment, capture_output=True, cwd="/", check=False)
    assert (result.returncode, result.stderr) == (7, b"")
    view, environ, child = result.stdout.split(b"\n", 2)
    return view.decode(), environ.decode(), child.split(b"\0")[:-1]


def is_script(command: list[str]) -> bool:
    return Path(command[0]).read_bytes().startswith(b"#!")


@pytest.mark.parametrize("name", [*SIMPLE, *STEERING])
def test_no_variable_steers_the_interpreter(name: str, command: list[str], place: Path) -> None:
    if name in STEERING and is_script(command):
        return  # its first interpreter starts before anything of ours (below)
    environment = {b"A": b"1", name.encode(): {**SIMPLE, **STEERING}[name].format(place=place).encode()}
    assert look(command, environment) == (look(command, {b"A": b"1"})[0], ascii(environment), [])
    assert not (place / "marker").exists()


@needs("compiler")
@pytest.mark.parametrize(
    "name", ["PYTHONEXECUTABLE", "__PYVENV_LAUNCHER__", "LD_PRELOAD", "LD_AUDIT", "LD_LIBRARY_PATH"]
)
def test_the_decoys_work(name: str, place: Path) -> None:
    """Otherwise the others would prove nothing."""
    environment = {name: STEERING[name].format(place=place)}
    subprocess.run([PYTHON, "-ISB", "-c", "import json"], env=environment, check=False, capture_output=True)
    assert (place / "marker").exists()
    (place / "marker").unlink()


@pytest.mark.parametrize("name", ["LD_PRELOAD", "LD_LIBRARY_PATH", "GLIBC_TUNABLES"])
def test_a_script_starts_over_without_it(name: str, command: list[str], place: Path) -> None:
    """What has steered its first interpreter does not steer the one that enters a container."""
    if not is_script(command):
        return
    value = STEERING[name].format(place="/none").encode()
    result = subprocess.run(command, env={name.encode(): value}, capture_output=True, check=False)
    assert result.returncode == 7
    assert result.stdout.splitlines()[1] == ascii({name.encode(): value}).encode()
    assert result.stderr.count(b"/none") <= 1  # ld.so's complaint, once


@needs("program:strace")
@pytest.mark.parametrize("verb", ["state", "run"])
@pytest.mark.parametrize("name", ["PYTHONEXECUTABLE", "__PYVENV_LAUNCHER__"])
def test_python_run_by_hand(name: str, verb: str) -> None:
    """No launcher, no script: ``python -m gosudacon``, whatever the command."""
    environment = {"PATH": os.environ["PATH"], name: PYTHON, "PYTHONPATH": str(CHECKOUT)}
    words = ["strace", "-qq", "-v", "-s999", "-etrace=execve,execveat", PYTHON, "-B", "-m", "gosudacon", verb, "none"]
    result = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    first, second = [line for line in result.stderr.splitlines() if re.match(r"execve(at)?\(", line)]
    assert name in first
    assert f'"{name}' not in second and '"PYTHONPATH' not in second and name[1:] in second


ODD: dict[str, dict[bytes, bytes]] = {
    "none": {},
    "no UTF-8": {b"A\xff": b"\xfe", b"\xff": b"\x80", b"\x80": b"", b"\xc1": b"like a hidden A", b"\x80\x80A": b"x"},
    "UTF-8": {"ä".encode(): "ö".encode(), "日本".encode(): b""},
    "empty and odd values": {b"A": b"", b"B": b"=", b"C": b"a\nb", b"=": b"x"} | {b" ": b" ", b"1": b"1"},
    "what looks hidden": {bytes((byte,)) + b"YTHONHOME": b"/none" for byte in range(1, 256) if byte != ord("=")},
    "large": {b"LARGE": b"x" * 131000},
    "many": {b"N%d" % number: b"%d" % number for number in range(3000)},
}


@pytest.mark.parametrize("case", ODD)
def test_the_program_sees_the_caller_s_environment(case: str, command: list[str]) -> None:
    environment = {name: value for name, value in ODD[case].items() if name != b"="}
    plain = look(command, {})
    view, environ, child = look(command, environment, "child")
    assert view == plain[0]
    assert environ == ascii(environment)
    assert child == [b"%s=%s" % each for each in environment.items()]


def test_entries_that_no_dictionary_can_hold(command: list[str]) -> None:
    """The first of two is the one that counts, as for any Python; what is not an assignment is ignored."""
    entries = (b"A=1", b"A=2", b"", b"B", b"=C", b"D=3")
    code = f"""
import ctypes
libc = ctypes.CDLL(None)
entries = (ctypes.c_char_p * {len(entries) + 1})(*{entries!r}, None)
words = (ctypes.c_char_p * 3)({command[0].encode()!r}, b"run", None)
libc.execve(words[0], words, entries)
"""
    result = subprocess.run([PYTHON, "-c", code], capture_output=True, check=False)
    assert (result.returncode, result.stderr) == (7, b"")
    assert result.stdout.splitlines()[1] == ascii({b"A": b"1", b"": b"C", b"D": b"3"}).encode()
