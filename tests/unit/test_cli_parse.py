"""Option parsing: runc's habits, its messages and exit statuses."""

from __future__ import annotations

import random

import pytest

from gosudacon.cli import options as table
from gosudacon.cli.parse import Invocation, UsageError, parse


def refused(*words: str) -> UsageError:
    with pytest.raises(UsageError) as caught:
        parse(words)
    return caught.value


@pytest.mark.parametrize(
    "words",
    [
        ["create", "--bundle", "/b", "x"],
        ["create", "--bundle=/b", "x"],
        ["create", "-bundle", "/b", "x"],
        ["create", "-bundle=/b", "x"],
        ["create", "-b", "/b", "x"],
        ["create", "-b=/b", "x"],
        ["create", "--b", "/b", "x"],
        ["create", "x", "--bundle", "/b"],
        ["create", "x", "-b", "/b"],
        ["create", "--bundle", "/a", "x", "--bundle", "/b"],
        ["create", "--bundle", "/b", "--", "x"],
        ["--", "create", "--bundle", "/b", "x"],
    ],
)
def test_spellings(words: list[str]) -> None:
    invocation = parse(words)
    assert (invocation.command, invocation.options["bundle"], invocation.args) == ("create", "/b", ["x"])
    assert invocation.given == {"bundle"}


def test_defaults() -> None:
    invocation = parse(["create", "x"])
    assert invocation.options == {
        "bundle": ".",
        "config": "",
        "device": [],
        "publish": [],
        "network": [],
        "pid-file": "",
        "console-socket": "",
        "pidfd-socket": "",
        "no-pivot": False,
        "no-new-keyring": False,
        "preserve-fds": 0,
        "trace": "",
    }
    assert invocation.globals["root"] == ""
    assert invocation.globals["rootless"] == "auto"
    assert invocation.given == set()


def test_a_former_name() -> None:
    """It is taken for the present one, and remembered for a warning; of commands' options it is another's."""
    invocation = parse(["--config", "/a", "create", "-f", "b", "x"])
    assert (invocation.globals["config-file"], invocation.options["config"]) == ("/a", "b")
    assert (invocation.given, invocation.former) == ({"config-file", "config"}, {"config-file": "config"})
    assert parse(["--config-file", "/a", "state", "x"]).former == {}


def test_a_value_may_be_empty_or_look_like_an_option() -> None:
    assert parse(["create", "--pid-file=", "x"]).options["pid-file"] == ""
    assert parse(["create", "--pid-file", "", "x"]).options["pid-file"] == ""
    assert parse(["create", "--pid-file", "--bundle", "x"]).options["pid-file"] == "--bundle"
    assert parse(["create", "--pid-file=a=b", "x"]).options["pid-file"] == "a=b"


def test_double_dash_ends_options() -> None:
    assert parse(["state", "--", "--help"]).args == ["--help"]
    assert parse(["state", "-"]).args == ["-"]
    assert parse(["state", ""]).args == [""]


@pytest.mark.parametrize(
    ("value", "expected"),
    [("true", True), ("1", True), ("T", True), ("false", False), ("0", False), ("FALSE", False)],
)
def test_booleans_with_a_value(value: str, expected: bool) -> None:
    assert parse(["delete", f"--force={value}", "x"]).options["force"] is expected
    assert parse(["delete", "--force", "x", f"-f={value}"]).options["force"] is expected


def test_a_bare_boolean_takes_no_word() -> None:
    assert parse(["delete", "--force", "true"]).args == ["true"]


@pytest.mark.parametrize("value", ["maybe", "", "yes", "TrUe", "1x"])
def test_bad_booleans(value: str) -> None:
    error = refused("delete", f"--force={value}", "x")
    assert error.message == f'invalid boolean value "{value}" for -force: parse error'
    assert (error.exit_code, error.heading, error.topic) == (1, "stderr", "delete")


@pytest.mark.parametrize("value", ["0", "1", "10", "2147483647"])
def test_integers(value: str) -> None:
    assert parse(["create", "--preserve-fds", value, "x"]).options["preserve-fds"] == int(value)


@pytest.mark.parametrize(
    "value",
    [
        "",
        " 1",
        "1 ",
        "1_0",
        "٣",
        "²",
        "+1",
        "-1",
        "01",
        "00",
        "0x10",
        "1e3",
        "1.0",
        "x",
        "1\n",
        "\udcb2",
        "-0",
    ],
)
def test_bad_integers(value: str) -> None:
    error = refused("create", f"--preserve-fds={value}", "x")
    assert error.message.endswith("for flag -preserve-fds: parse error")
    assert error.exit_code == 1


@pytest.mark.parametrize("value", ["2147483648", "4294967296", "9" * 5000])
def test_integers_out_of_range(value: str) -> None:
    assert refused("create", "--preserve-fds", value, "x").message.endswith("value out of range")


@pytest.mark.parametrize(("value", "expected"), [("auto", "auto"), ("true", "true"), ("1", "true"), ("F", "false")])
def test_rootless(value: str, expected: str) -> None:
    assert parse([f"--rootless={value}", "state", "x"]).globals["rootless"] == expected


def test_bad_choices() -> None:
    assert refused("--rootless=maybe", "state", "x").message == 'invalid value "maybe" for flag -rootless: parse error'
    assert refused("--cgroup-manager=x", "state", "x").message == (
        'invalid value "x" for flag -cgroup-manager: must be one of cgroupfs, systemd, disabled'
    )
    error = refused("list", "-f", "xml")
    assert (error.message, error.exit_code, error.heading) == ("invalid format option", 1, "")


@pytest.mark.parametrize("word", ["--nosuch", "-nosuch", "--nosuch=1"])
def test_unknown_option(word: str) -> None:
    for words, topic in (
        ([word, "state", "x"], ""),
        (["state", word, "x"], "state"),
        (["state", "x", word], "state"),
    ):
        error = refused(*words)
        assert error.message == "flag provided but not defined: -nosuch"
        assert (error.exit_code, error.heading, error.topic) == (1, "stderr", topic)


@pytest.mark.parametrize("word", ["-db", "-bDIR", "--bund", "-9", "---bundle"[:2] + "x"])
def test_no_bundling_and_no_prefixes(word: str) -> None:
    assert refused("create", word, "x").message == f"flag provided but not defined: -{word.lstrip('-')}"


@pytest.mark.parametrize("word", ["---x", "--=x", "-=x", "---"])
def test_bad_flag_syntax(word: str) -> None:
    assert refused("state", word).message == f"bad flag syntax: {word}"


def test_global_options_do_not_stand_after_the_command() -> None:
    assert refused("state", "--root", "/r", "x").message == "flag provided but not defined: -root"


def test_missing_value() -> None:
    error = refused("create", "--bundle")
    assert error.message == "flag needs an argument: --bundle"
    assert (error.exit_code, error.heading, error.topic) == (1, "stderr", "create")
    assert refused("create", "x", "-b").message == "flag needs an argument: -b"
    assert refused("--log").message == "flag needs an argument: --log"
    assert refused("--log").topic == ""


def test_podmans_probe_of_restore() -> None:
    assert refused("restore", "--lsm-mount-context").message == "flag needs an argument: --lsm-mount-context"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["state"], '"state" requires exactly 1 argument(s)'),
        (["state", "a", "b"], '"state" requires exactly 1 argument(s)'),
        (["create"], '"create" requires exactly 1 argument(s)'),
        (["list", "a"], '"list" requires exactly 0 argument(s)'),
        (["kill"], '"kill" requires a minimum of 1 argument(s)'),
        (["kill", "a", "9", "b"], '"kill" requires a maximum of 2 argument(s)'),
        (["explain", "a", "b", "c"], '"explain" requires a maximum of 2 argument(s)'),
    ],
)
def test_number_of_arguments(words: list[str], message: str) -> None:
    error = refused(*words)
    assert error.message == f"gosudacon: {message}"
    assert (error.exit_code, error.heading, error.topic) == (1, "stdout", words[0])


@pytest.mark.parametrize("word", ["nosuch", "", "-", "version", "\udcff", "Create", "__class__"])
def test_unknown_command(word: str) -> None:
    error = refused(word, "--help")
    assert (error.message, error.exit_code, error.heading) == (f"No help topic for '{word}'", 3, "")
    assert refused("help", word).exit_code == 3


def test_options_end_at_first_argument() -> None:
    """Options end at the first argument of some commands."""
    assert parse(["kill", "--all", "x", "-9"]).args == ["x", "-9"]
    assert parse(["exec", "-d", "x", "ls", "-l", "--help"]).args == ["x", "ls", "-l", "--help"]
    assert parse(["exec", "x", "--", "ls"]).args == ["x", "--", "ls"]
    assert parse(["exec", "--", "x", "ls", "-l"]).args == ["x", "ls", "-l"]
    assert parse(["ps", "x", "-e", "-f"]).args == ["x", "-e", "-f"]
    assert {name for name, command in table.every().items() if command["stop"]} == {"demo", "exec", "kill", "ps"}


def test_repeatable_options() -> None:
    invocation = parse(["exec", "-e", "A=1", "--env=B=2,3", "-env", "C", "-c", "CAP_KILL", "x", "sh"])
    assert invocation.options["env"] == ["A=1", "B=2,3", "C"]
    assert invocation.options["cap"] == ["CAP_KILL"]
    assert parse(["exec", "x", "sh"]).options["env"] == []


@pytest.mark.parametrize(
    ("words", "topic"),
    [
        ([], []),
        (["--help"], []),
        (["-h"], []),
        (["help"], []),
        (["h"], []),
        (["--debug"], []),
        (["help", "create"], ["create"]),
        (["h", "h"], ["help"]),
        (["create", "--help"], ["create"]),
        (["create", "-h"], ["create"]),
        (["create", "x", "y", "-help"], ["create"]),
        (["kill", "-h"], ["kill"]),
        (["exec", "--help"], ["exec"]),
    ],
)
def test_help(words: list[str], topic: list[str]) -> None:
    invocation = parse(words)
    assert (invocation.command, invocation.args) == ("help", topic)


def test_version() -> None:
    for word in ("--version", "-v", "-version", "--v"):
        assert parse([word]).command == "version"
    assert parse(["--root", "/r", "--version", "state"]).command == "version"
    assert parse(["--version=false"]).command == "help"


def test_saved_state_overrides_global_options() -> None:
    for command in ("state", "start", "kill", "delete"):
        assert parse(["--rootless=true", command, "x"]).command == command


def test_an_error_carries_what_was_understood() -> None:
    error = refused("--log", "/l", "--log-format", "json", "create", "--nosuch")
    assert error.invocation.globals["log"] == "/l"
    assert error.invocation.globals["log-format"] == "json"
    assert error.invocation.globals["debug"] is False
    assert error.invocation.command == "create"
    early = refused("--log", "/l", "--nosuch").invocation
    assert (early.globals["log"], early.globals["log-format"]) == ("/l", "text")


def test_failures() -> None:
    assert (parse(["create", "x"]).prefix, parse(["create", "x"]).failure) == ("gosudacon create failed: ", 1)
    assert (parse(["run", "x"]).prefix, parse(["state", "x"]).prefix) == ("gosudacon run failed: ", "")
    assert table.every()["exec"]["failure"] == 255
    assert (Invocation().prefix, Invocation().failure) == ("", 1)


def test_the_table_is_sound() -> None:
    for name, command in {**table.every()}.items():
        spellings = [word for option in command["options"] for word in (option.name, option.short) if word]
        assert len(spellings) == len(set(spellings)), name
        assert "help" in spellings
        for option in command["options"]:
            kind, metavar, default = option.kind, option.metavar, option.default
            assert kind in ("flag", "str", "int", "list", "str-bool", "choice")
            assert (metavar == "") == (kind == "flag")
            assert len(option.short) <= 1
            assert isinstance(default, {"flag": bool, "int": int}.get(kind, str))
            assert kind != "choice" or default in metavar.split("|")
        for line in command["example"].splitlines():
            assert line.split()[0] == name


def test_examples_parse() -> None:
    for name, command in table.every().items():
        for line in command["example"].splitlines():
            assert parse(line.split()).command == name


def test_odd_words_never_crash() -> None:
    generator = random.Random(20260)
    names = [option.name for command in table.every().values() for option in command["options"]]
    pieces = [
        "-",
        "--",
        "=",
        "",
        "\udcff",
        "\udc80\udcfe",
        "\x00",
        "\n",
        "é",
        "٣",
        "9" * 40,
        "true",
        "x",
        "h",
        "b",
    ]
    words = [*pieces, *table.every(), *("--" + name for name in names), *("-" + name for name in names)]
    for _ in range(20_000):
        line = ["".join(generator.choices(words, k=generator.randint(1, 2))) for _ in range(generator.randint(0, 5))]
        try:
            invocation = parse(line)
        except UsageError as error:
            assert error.exit_code in (1, 3, 255)
        else:
            assert invocation.command in (*table.every(), "version")
