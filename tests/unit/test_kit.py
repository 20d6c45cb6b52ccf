"""`gosudacon plugin`: lists, edits of config.toml, new packages; the watch over pure planning."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from gosudacon.base.errors import Error
from gosudacon.container.kit import cost, enabling, plugins, skeleton, toml_list
from gosudacon.container.kit.purity import Watch

ROOT = Path(__file__).parents[2]
SHIPPED = "network", "seccomp-stub"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "etc/config.toml"


def written(config: Path, text: str) -> str:
    config.parent.mkdir(exist_ok=True)
    config.write_text(text)
    config.chmod(0o644)
    return str(config)


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-B", "-m", "gosudacon", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


# The text of a list.


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", 'plugins = ["x"]\n'),
        ("# mine\n\n[stage.a]\n", '# mine\n\nplugins = ["x"]\n[stage.a]\n'),
        ("# of a\n[stage.a]\n", 'plugins = ["x"]\n# of a\n[stage.a]\n'),
        ('disable = ["hooks"] # no\n\n[stage.a]\nplugins = ["b"]\n', None),
        ("plugins = []\n", 'plugins = ["x"]\n'),
        ("plugins = ['a'] # one\n", "plugins = ['a', \"x\"] # one\n"),
        ('"plugins" = ["a",]', '"plugins" = ["a", "x",]'),
        ('plugins = [\n  "a" # why\n]\n', 'plugins = [\n  "a", # why\n  "x",\n]\n'),
        ('plugins = [\n\t"a", # ] "b"\n\t# c\n]\n', 'plugins = [\n\t"a", # ] "b"\n\t"x",\n\t# c\n]\n'),
        ('disable = ["plugins = [", """\n[x]\n"""]\nplugins = ["a"]\n', None),
    ],
)
def test_append(before: str, after: str | None) -> None:
    text = toml_list.append(before, "plugins", "x")
    assert after is None or text == after
    meant = tomllib.loads(before)
    assert tomllib.loads(text) == {**meant, "plugins": [*meant.get("plugins", []), "x"]}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('plugins = ["x"]\n', "plugins = []\n"),
        ('plugins = ["x", "a"] # two\n', 'plugins = ["a"] # two\n'),
        ('plugins = ["a", "x"]\n', 'plugins = ["a"]\n'),
        ('plugins = ["a", "x", "b"]\n', 'plugins = ["a", "b"]\n'),
        ('plugins = [\n  "a",\n  "x",\n  "b",\n]\n', 'plugins = [\n  "a",\n  "b",\n]\n'),
        ('plugins = [\n  "a", # one\n  "x" # two\n]\n', None),
        ('plugins = [\n  "x", # two\n  "a"\n]\n', 'plugins = [\n   # two\n  "a"\n]\n'),
    ],
)
def test_remove(before: str, after: str | None) -> None:
    text = toml_list.remove(before, "plugins", "x")
    assert after is None or text == after
    assert tomllib.loads(text)["plugins"] == [name for name in tomllib.loads(before)["plugins"] if name != "x"]
    assert before.count("#") == text.count("#")


@pytest.mark.parametrize("text", ["plugins = [1]\n", 'plugins = "x"\n', 'plugins = ["a"\n'])
def test_what_cannot_be_edited(text: str) -> None:
    with pytest.raises(toml_list.Unreadable):
        toml_list.append(text, "plugins", "y")


def test_tables_go_and_come_back() -> None:
    text = '[plugin.x]\na = 1 # one\n\n[plugin.x.y]\nb = 2\n[plugin.xy]\nc = 3\n# d\n["plugin".x]\n'
    off = toml_list.switch_off(text, "plugin.x")
    assert tomllib.loads(off) == {"plugin": {"xy": {"c": 3}}}
    assert toml_list.switch_on(off, "plugin.xy") == off
    assert toml_list.switch_on(off, "plugin.x") == text


# Enabling.


def test_enable_makes_the_file(config: Path) -> None:
    said = enabling.enable(str(config), ["seccomp-stub"])
    assert "is enabled" in said[0]
    assert config.read_text() == 'plugins = ["seccomp-stub"]\n'
    assert config.stat().st_mode & 0o777 == 0o644
    assert list(config.parent.iterdir()) == [config]


def test_enable_keeps_order_comments_and_mode(config: Path) -> None:
    path = written(config, '# mine\nplugins = ["seccomp-stub"] # first\n\n[stage.hooks]\n# none\n')
    config.chmod(0o600)
    enabling.enable(path, ["network", "seccomp-stub"])
    assert config.read_text() == '# mine\nplugins = ["seccomp-stub", "network"] # first\n\n[stage.hooks]\n# none\n'
    assert config.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["", 'plugins = ["seccomp-stub"]\n'])
def test_enable_refuses_what_cannot_be_loaded(config: Path, text: str) -> None:
    path = written(config, text)
    with pytest.raises(Error, match="not installed"):
        enabling.enable(path, ["no-such"])
    assert config.read_text() == text
    assert list(config.parent.iterdir()) == [config]


def test_enable_refuses_a_file_that_others_can_write(config: Path) -> None:
    path = written(config, "")
    config.chmod(0o666)
    with pytest.raises(Error, match="must belong to root"):
        enabling.enable(path, ["network"])


def test_disable_takes_settings_away_and_enable_brings_them_back(config: Path) -> None:
    text = 'plugins = ["network"]\n\n[stage.network]\nnat = true # yes\n'
    path = written(config, text)
    said = enabling.disable(path, ["network"])
    assert any("settings" in sentence for sentence in said)
    assert tomllib.loads(config.read_text()) == {"plugins": []}
    enabling.enable(path, ["network"])
    assert config.read_text() == text


def test_disable_says_what_depends_on_it(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site_hostname-1.dist-info"
    site.mkdir()
    (site / "METADATA").write_text("Metadata-Version: 2.1\nName: site-hostname\nVersion: 1\n")
    (site / "entry_points.txt").write_text("[gosudacon]\nsite-hostname = gosudacon_site_hostname\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.syspath_prepend(str(ROOT / "tests/plugins/site_hostname/src"))
    text = 'plugins = ["site-hostname"]\n\n[replace]\nnamespaces = "site-hostname"\n'
    path = written(config, text)
    with pytest.raises(Error, match=r"needed by \[replace\] namespaces = 'site-hostname'"):
        enabling.disable(path, ["site-hostname"])
    assert config.read_text() == text


def test_disable_what_is_not_enabled(config: Path) -> None:
    assert enabling.disable(written(config, ""), ["network"]) == ["plugin network is not enabled"]


def test_a_link_stays_a_link(config: Path) -> None:
    written(config, "")
    link = config.with_name("link.toml")
    link.symlink_to(config)
    enabling.enable(str(link), ["network"])
    assert link.is_symlink()
    assert config.read_text() == 'plugins = ["network"]\n'


# Listing.


def test_listing(config: Path) -> None:
    path = written(config, 'plugins = ["seccomp-stub"]\n')
    rows = {row["name"]: row for row in plugins.listing(path)}
    assert set(SHIPPED) <= set(rows)
    assert next(iter(rows)) == "seccomp-stub"
    stub, network = rows["seccomp-stub"], rows["network"]
    assert (stub["enabled"], stub["position"], network["position"]) == (True, 1, 0)
    assert stub["stages"] or stub["hooks"]
    assert network["stages"] is None, "it was imported, and is not enabled"
    assert stub["cost"] is not None
    assert stub["cost"]["milliseconds"] > 0
    assert any(file["path"].endswith("seccomp_stub.py") for file in stub["files"])


def test_a_plugin_that_is_gone_is_listed(config: Path) -> None:
    row = plugins.listing(written(config, 'plugins = ["no-such"]\n'))[0]
    assert (row["name"], row["position"]) == ("no-such", 1)
    assert "not installed" in row["problem"]


def test_files_that_others_can_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "gosudacon_open"
    package.mkdir(mode=0o755)
    (package / "__init__.py").write_text("")
    (package / "__init__.py").chmod(0o666)
    monkeypatch.syspath_prepend(str(tmp_path))
    unsafe = [file["path"] for file in plugins._files("gosudacon_open") if not file["safe"]]
    assert unsafe == [str(package / "__init__.py")]


def test_the_cost_of_what_cannot_be_imported() -> None:
    with pytest.raises(Error, match="ModuleNotFoundError"):
        cost.measure(["no_such_module"])


def test_cost_counts_modules() -> None:
    found = cost.measure(["gosudacon.plugins.seccomp_stub", "wave"])
    assert found["modules"] >= 2 and found["starts"] == cost.STARTS
    assert found["processor_milliseconds"] > 0


def test_costs_are_measured_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first start of each is left out; the median of the rest, column by column."""
    asked = []
    times = iter([(9, 9, 9), (9, 9, 9), (1, 1, 1), (2, 2, 1), (3, 2, 1), (4, 4, 1), (2, 3, 1), (3, 3, 1)])

    def start(modules: list[str]) -> tuple[int, ...]:
        asked.append(modules[0])
        wall, used, _ = next(times)
        return wall * 10**6, used * 10**6, len(modules)

    monkeypatch.setattr(cost, "_start", start)
    found = cost.compare({"one": ["a"], "two": ["b", "c"]}, 3)
    assert asked == ["a", "b"] * 4
    assert found["one"] == {"milliseconds": 2.0, "processor_milliseconds": 2.0, "modules": 1, "starts": 3}
    assert (found["two"]["milliseconds"], found["two"]["modules"]) == (3.0, 2)


def test_command_line(config: Path) -> None:
    path = written(config, "# nothing\n")
    assert call("--config-file", path, "plugin", "enable", "network").returncode == 0
    rows = json.loads(call("--config-file", path, "plugin", "list", "--format", "json").stdout)
    assert rows[0]["name"] == "network"
    table = call("--config-file", path, "plugin", "list").stdout.splitlines()
    assert table[0].split()[:3] == ["NAME", "FROM", "ENABLED"]
    assert table[1].split()[:3] == ["network", "gosudacon", "1"]
    assert call("--config-file", path, "plugin", "list", "none").returncode == 1
    assert "unknown action" in call("plugin", "nothing").stderr
    assert "needs the name" in call("plugin", "enable").stderr


# New packages.


@pytest.mark.parametrize(
    "name", ["", "X", "a_b", "../x", "-a", "a-", "a--b", "1a", "a" * 41, "hooks", "network", "a\n"]
)
def test_names_that_cannot_be(tmp_path: Path, name: str) -> None:
    with pytest.raises(Error):
        skeleton.write(str(tmp_path / "new"), name)
    assert not (tmp_path / "new").exists()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    with pytest.raises(Error, match="not empty"):
        skeleton.write(str(tmp_path), "my-plugin")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_new_package_is_whole(tmp_path: Path) -> None:
    files = skeleton.write(str(tmp_path / "new"), "two-words")
    assert sorted(files) == sorted(
        str(path.relative_to(tmp_path / "new")) for path in (tmp_path / "new").rglob("*") if path.is_file()
    )
    module = (tmp_path / "new/src/gosudacon_two_words/__init__.py").read_text()
    assert module.count("def expect(") == module.count("(Step):") == 2, "`plugin check` has nothing to remark"
    project = tomllib.loads((tmp_path / "new/pyproject.toml").read_text())["project"]
    assert project["entry-points"]["gosudacon"] == {"two-words": "gosudacon_two_words"}
    assert not [
        path
        for path in files
        if "@"
        in (tmp_path / "new" / path)
        .read_text()
        .replace("checkout@", "")
        .replace("setup-python@", "")
        .replace("@hookimpl", "")
        .replace("@pytest", "")
    ]


def test_tests_of_a_new_package_pass(tmp_path: Path) -> None:
    """As an ordinary user would have them: without containers, which tests/kernel/test_kit.py makes."""
    skeleton.write(str(tmp_path / "new"), "my-plugin")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-B", "-m", "pytest", "-q", "-p", "gosudacon.testing.plugin", "-p", "no:cacheprovider"]
    command += ["-p", "no:gosudacon", f"--basetemp={tmp_path}/inner", "-k", "not test_a_container and not every_step"]
    result = subprocess.run(
        command, cwd=tmp_path / "new", env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "4 passed" in result.stdout


# Purity.


def test_what_is_seen(tmp_path: Path) -> None:
    with Watch() as watch:
        (tmp_path / "file").exists()
        (tmp_path / "file").write_text("x")
        import wave  # noqa: F401 - the import system's own reads are not reported
    assert [line.split("(")[0] for line in watch.seen] == ["os.stat", "open"]
    assert all("test_kit.py:" in line for line in watch.seen)
    (tmp_path / "file").exists()
    assert len(watch.seen) == 2


def test_the_hook_for_facts_may_read(tmp_path: Path) -> None:
    file = tmp_path / "file"

    def gosudacon_gather_facts(write: bool) -> None:
        os.listdir(tmp_path)
        with open(file, "w" if write else "r"):
            os.stat(tmp_path)

    file.touch()
    with Watch() as watch:
        gosudacon_gather_facts(False)
    assert watch.seen == []
    with Watch() as watch:
        gosudacon_gather_facts(True)
    assert [line.split("(")[0] for line in watch.seen] == ["open"]


def test_only_of_some_packages(tmp_path: Path) -> None:
    with Watch("some.other") as watch:
        (tmp_path / "file").write_text("x")
    assert watch.seen == []
