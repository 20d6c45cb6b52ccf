"""The same words to runc and to gosudacon: the same exit status and the same message.

Both write the message to ``--log``, as engines have it. runc here is any 1.1; where later releases have changed
their mind (options after the arguments, `--root /`), the tests of the parser say what is right.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.needs import needs
from tests.support.runtime import CHECKOUT

pytestmark = needs("program:runc", "root")

GOSUDACON = [sys.executable, "-B", str(CHECKOUT / "gosudacon/__main__.py")]

SAME = """\
nosuch
--nosuch
-nosuch
--nosuch=1 list
---x
state
state a b
state -
state - x
state -x
state --force x
state --=x
state -- nosuch
state -- --help
state nosuch
state ..
list a
list -f xml
list --format=xml
list --format json
list -f=json
list -q
list --quiet=true
list -quiet
list
start
start nosuch
kill
kill a 9 b
kill nosuch 9
kill nosuch
kill --all nosuch KILL
kill -a=true nosuch 9
kill --all=maybe nosuch
delete nosuch
delete --force nosuch
delete -force nosuch
delete -f nosuch
delete -f=1 nosuch
delete -f=false nosuch
delete --force=T --force=F nosuch
delete --force=maybe x
pause nosuch
resume nosuch
ps nosuch
ps nosuch -ef
exec
exec nosuch
exec nosuch ls -l
exec -nosuch nosuch ls
exec --env A=1 -env=C=3 nosuch ls
exec --process /nonexistent nosuch
update nosuch
update --blkio-weight=x nosuch
update --memory 1g nosuch
create --preserve-fds=x x
create --preserve-fds= x
create --bundle /nonexistent x
create -bundle /nonexistent x
create -b=/nonexistent x
create --bundle /nonexistent --bundle EMPTY x
create --bundle EMPTY x
create -b EMPTY --no-pivot=true --no-new-keyring=false x
create
run --bundle EMPTY --detach --keep x
run -d -b EMPTY x
run
spec x
help nosuch
h nosuch
--debug=maybe list
--systemd-cgroup=maybe list
"""
# What Debian's runc says without the second dash and runc 1.2 with as many as there were.
MISSING = ["create --bundle", "create -b", "exec --cap", "exec -e", "kill --all=1 -nosuch", "update --memory"]
ANSWERED = [
    "",
    "--help",
    "-h",
    "-help",
    "help",
    "h",
    "help state",
    "create --help",
    "kill -h",
    "exec -help",
    "--version",
]


def call(program: list[str], line: str, place: Path) -> tuple[int, str, str, str]:
    """Exit status, message in the log, standard output and standard error."""
    empty, log = place / "empty", place / "log"
    empty.mkdir(exist_ok=True)
    (place / "root").mkdir(exist_ok=True)
    log.unlink(missing_ok=True)
    words = [word.replace("EMPTY", str(empty)) for word in line.split()]
    result = subprocess.run(
        [*program, "--root", place / "root", "--log", log, "--log-format", "json", *words],
        cwd=empty,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": os.environ["PATH"]},
    )
    records = [json.loads(text) for text in log.read_text().splitlines()] if log.exists() else []
    assert [record["level"] for record in records] == ["error"] * len(records)
    assert len(records) <= 1
    message = records[0]["msg"].strip() if records else ""
    if not records and result.returncode != 0:  # runc opens the log after it has read the global options
        found = re.search(r' msg="(.*)"$', result.stderr)
        assert program != GOSUDACON and found
        message = found[1].replace('\\"', '"')
    name = "gosudacon" if program == GOSUDACON else "runc"
    for own in (f"{name}: ", f"/usr/sbin/{name}: "):
        message = "PROGRAM: " + message.removeprefix(own) if message.startswith(own) else message
    return result.returncode, message.replace(f"{name} ", "PROGRAM "), result.stdout, result.stderr


@pytest.mark.parametrize("line", SAME.splitlines())
def test_same_answer(line: str, tmp_path: Path) -> None:
    theirs = call(["runc"], line, tmp_path)
    ours = call(GOSUDACON, line, tmp_path)
    assert ours[:2] == theirs[:2]
    assert bool(ours[2]) == bool(theirs[2]) or "Incorrect Usage" in ours[2] + ours[3]
    if theirs[0] == 0:
        assert ours[2:] == theirs[2:]


@pytest.mark.parametrize("line", MISSING)
def test_same_answer_but_for_dashes(line: str, tmp_path: Path) -> None:
    theirs = call(["runc"], line, tmp_path)
    ours = call(GOSUDACON, line, tmp_path)
    assert (ours[0], ours[1].replace("--", "-")) == (theirs[0], theirs[1].replace("--", "-"))


@pytest.mark.parametrize("line", ANSWERED)
def test_help_is_on_stdout_with_both(line: str, tmp_path: Path) -> None:
    for program in (["runc"], GOSUDACON):
        status, message, out, err = call(program, line, tmp_path)
        assert (status, message, bool(out), err) == (0, "", True, "")


def test_the_same_spec(tmp_path: Path) -> None:
    """What `spec` and `spec --rootless` write differs from runc's only where a later release differs, too."""
    for words in (["spec"], ["spec", "--rootless"]):
        found = []
        for number, program in enumerate((["runc"], GOSUDACON)):
            place = tmp_path / f"{len(words)}{number}"
            place.mkdir()
            subprocess.run([*program, *words], cwd=place, check=True)
            config = json.loads((place / "config.json").read_text())
            assert (place / "config.json").read_text().startswith('{\n\t"ociVersion": "')
            for key in ("ociVersion", "hostname"):
                del config[key]
            del config["linux"]["maskedPaths"]
            for kind in ("ambient", "inheritable"):
                config["process"]["capabilities"].pop(kind, None)
            found.append(config)
        assert found[1] == found[0]
