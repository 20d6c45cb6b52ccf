"""Third-party plugins from the package to the container: installed by pip, enabled by config.toml, run, undone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import plugins
from tests.support.bundle import Bundle
from tests.support.leftovers import Watch
from tests.support.needs import needs
from tests.support.runtime import Runtime

BANNER = """
plugins = ["banner"]

[stage.banner]
text = "hello\\n"
directory = "{notes}"
"""
SITE_HOSTNAME = """
plugins = ["site-hostname"]

[replace]
namespaces = "site-hostname"

[stage.site-hostname]
domain = "example.org"
"""


class Site:
    """A directory of packages, a program that looks there, and runtimes made of it."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.packages = scratch / "site"
        self.packages.mkdir()
        self.runtimes: list[Runtime] = []
        self.entry = plugins.entry(self.packages, scratch / "entry.py")

    def install(self, *names: str) -> None:
        plugins.install(self.packages, *names, scratch=self.scratch)

    def runtime(self, config: str, *options: str) -> Runtime:
        value = plugins.runtime(self.entry, self.scratch / "config.toml", config, self.scratch / "root", *options)
        self.runtimes.append(value)
        return value


@pytest.fixture
def site(leftovers: Watch, scratch: Path) -> Iterator[Site]:
    value = Site(scratch)
    yield value
    for runtime in value.runtimes:
        runtime.clean()


@pytest.fixture
def notes(scratch: Path) -> Path:
    path = scratch / "notes"
    path.mkdir()
    return path


def explain(runtime: Runtime, bundle: Bundle) -> dict[str, Any]:
    plan = json.loads(runtime.call("explain", "--format", "json", bundle.path).stdout)
    assert isinstance(plan, dict)
    return plan


def stages(plan: dict[str, Any]) -> set[str]:
    return {step["stage"] for step in plan["steps"]}


def test_added_stage(site: Site, notes: Path, bundle: Bundle) -> None:
    """An added stage shows in the plan in the container and on the host and goes with the container."""
    site.install("banner")
    runtime = site.runtime(BANNER.format(notes=notes))
    bundle.set("process.args", ["cat", "/run/banner"])
    (bundle.rootfs / "run/banner").symlink_to("/etc/passwd")  # of the host, if it were followed outside of the root
    steps = [step for step in explain(runtime, bundle)["steps"] if step["stage"] == "banner"]
    assert [step["step"] for step in steps] == ["NoteContainer", "WriteBanner"]
    assert [step["undone_by_delete"] for step in steps] == [True, False]
    runtime.create(bundle)
    assert (notes / bundle.id).read_text() == "hello\n"
    pid = runtime.pid(bundle)
    runtime.start(bundle)
    assert runtime.wait(pid) == 0
    assert bundle.stdout == "hello\n"
    runtime.delete(bundle)
    assert list(notes.iterdir()) == []
    assert "root:" in Path("/etc/passwd").read_text()


def test_a_failed_create_undoes_the_step_of_a_plugin(site: Site, notes: Path, bundle: Bundle) -> None:
    site.install("banner")
    runtime = site.runtime(BANNER.format(notes=notes))
    bundle.set("process.args", ["/no/such/program"])
    assert runtime.create(bundle, check=False).returncode == 1
    assert list(notes.iterdir()) == []


def test_a_step_of_a_plugin_that_fails_is_named(site: Site, scratch: Path, bundle: Bundle) -> None:
    site.install("banner")
    runtime = site.runtime(BANNER.format(notes=scratch / "missing"))
    result = runtime.create(bundle, check=False)
    assert result.returncode == 1
    assert f"note {bundle.id} in {scratch}/missing: {scratch}/missing/{bundle.id}: no such file" in result.stderr


def test_amendment(site: Site, notes: Path, bundle: Bundle) -> None:
    """An amendment is run and explain says who made it."""
    site.install("banner")
    runtime = site.runtime(BANNER.format(notes=notes))
    bundle.set("process.args", ["echo", "world"]).set("annotations", {"org.example.banner.announce": "true"})
    assert explain(runtime, bundle)["amended"] == ["banner added: print the banner"]
    table = runtime.call("explain", bundle.path).stdout
    assert "amended banner added: print the banner" in table
    assert runtime.output(bundle) == "hello\nworld\n"


def test_a_stage_in_the_place_of_a_built_in_one(site: Site, bundle: Bundle) -> None:
    site.install("site_hostname")
    runtime = site.runtime(SITE_HOSTNAME)
    bundle.set("process.args", ["hostname"]).set("hostname", "web")
    assert "sethostname(web.example.org)" in [step["what"] for step in explain(runtime, bundle)["steps"]]
    assert runtime.output(bundle) == "web.example.org\n"


def test_installed_but_not_enabled(site: Site, bundle: Bundle) -> None:
    """A package that is merely installed is not loaded."""
    site.install("banner", "site_hostname", "faults")
    plan = explain(site.runtime(""), bundle)
    assert "banner" not in stages(plan)
    assert plan["amended"] == []


def test_installed_and_removed(site: Site, notes: Path, bundle: Bundle) -> None:
    """An enabled plugin is found as soon as it is installed and missed when it is gone."""
    runtime = site.runtime(BANNER.format(notes=notes))
    result = runtime.create(bundle, check=False)
    assert result.returncode == 1
    assert "plugin 'banner' is enabled but not installed" in result.stderr
    site.install("banner")
    runtime.create(bundle)
    (module,) = site.packages.glob("gosudacon_banner/__init__.py")
    module.rename(site.packages / "away")
    result = runtime.delete(bundle, "--force", check=False)
    assert result.returncode == 1
    assert "cannot find gosudacon_banner.NoteContainer" in result.stderr
    assert runtime.status(bundle) == "stopped"
    (site.packages / "away").rename(module)
    runtime.delete(bundle)
    assert list(notes.iterdir()) == []


def test_newer_version(site: Site, bundle: Bundle) -> None:
    """A newer version of a plugin takes effect at once."""
    site.install("banner")
    runtime = site.runtime('plugins = ["banner"]')
    assert "banner" in stages(explain(runtime, bundle))
    module = site.packages / "gosudacon_banner/__init__.py"
    module.write_text(module.read_text().replace('name = "banner"', 'name = "flag"\n    keys = ("hooks",)'))
    assert "flag" not in stages(explain(runtime, bundle))
    bundle.set("hooks", {"poststop": [{"path": "/bin/true"}]})
    assert "flag" in stages(explain(runtime, bundle))


STUB = 'plugins = ["seccomp-stub"]'


def test_a_plugin_that_ships_needs_no_package(site: Site, bundle: Bundle) -> None:
    """And what it does holds for a process that is executed later, too."""
    runtime = site.runtime(STUB)
    bundle.set("linux.seccomp", {"defaultAction": "SCMP_ACT_ERRNO"}).set("process.args", ["sleep", "1000"])
    assert explain(runtime, bundle)["edited"][0] == {
        "plugin": "seccomp-stub",
        "what": "changed",
        "path": "linux.seccomp.defaultAction",
        "before": "SCMP_ACT_ERRNO",
        "after": "SCMP_ACT_LOG",
    }
    runtime.create(bundle)
    runtime.start(bundle)
    assert runtime.call("exec", bundle.id, "echo", "allowed").stdout == "allowed\n"
    runtime.delete(bundle, "--force")


def test_exec_has_the_filter_that_its_container_has(site: Site, bundle: Bundle) -> None:
    """Whether the stub was enabled when the container was made is what counts, not whether it is now."""
    denied = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["sethostname"], "action": "SCMP_ACT_ERRNO"}]}
    bundle.set("linux.seccomp", denied).set("process.args", ["sleep", "1000"])
    for name in ("bounding", "permitted", "effective"):
        bundle.config["process"]["capabilities"][name].append("CAP_SYS_ADMIN")
    bundle.write()
    for made, later, status in ((STUB, "", 0), ("", STUB, 1), (STUB, STUB, 0)):
        runtime = site.runtime(made)
        runtime.boot(bundle)
        runtime = site.runtime(later)
        assert runtime.call("exec", bundle.id, "hostname", "x", check=False).returncode == status, (made, later)
        runtime.delete(bundle, "--force")


def test_the_stub_is_no_stage(site: Site, bundle: Bundle) -> None:
    result = site.runtime(STUB + '\n[replace]\nseccomp = "seccomp-stub"').create(bundle, check=False)
    assert result.returncode == 1
    assert "unknown stage 'seccomp-stub'" in result.stderr


GPU = """
plugins = ["gpu"]

[plugin.gpu]
major = 1
minors = [5]
libraries = "{libraries}"
"""


@pytest.fixture
def libraries(scratch: Path) -> Path:
    path = scratch / "libraries"
    path.mkdir()
    (path / "libgpu.so").write_text("library\n")
    return path


@pytest.fixture(params=["with", "without"])
def gpu(request: pytest.FixtureRequest, site: Site, libraries: Path, bundle: Bundle) -> Runtime:
    """With and without the snapshot; the container sleeps."""
    site.install("gpu")
    bundle.set("process.args", ["sleep", "1000"])
    options = [] if request.param == "with" else ["--no-snapshot"]
    return site.runtime(GPU.format(libraries=libraries), *options)


LOOK = ["sh", "-c", "env | grep -c ^GPU_LIBRARIES=/opt/gpu$; cat /opt/gpu/libgpu.so; head -c 3 /dev/gpu5 | wc -c"]
SEEN = "1\nlibrary\n3\n"


def test_a_device_a_variable_and_a_mount(gpu: Runtime, bundle: Bundle) -> None:
    for name, value in (("annotations", {"org.example.gpu": "true"}), ("process.env", ["PATH=/bin", "GPU=wanted"])):
        bundle.set(name, value)
        assert gpu.run(bundle.set("process.args", LOOK), container_id=f"{bundle.id}-{name[0]}").stdout == SEEN


def test_nothing_without_asking(gpu: Runtime, bundle: Bundle) -> None:
    """A container that does not ask has nothing of it."""
    assert explain(gpu, bundle)["edited"] == []
    result = gpu.run(bundle.set("process.args", ["sh", "-c", "env | grep GPU; ls /opt/gpu /dev/gpu5"]))
    assert result.returncode != 0 and result.stdout == ""


def asking(runtime: Runtime, bundle: Bundle) -> None:
    runtime.create(bundle.set("annotations", {"org.example.gpu": "true"}))
    runtime.start(bundle)


def test_a_process_that_is_executed_is_edited_once(gpu: Runtime, bundle: Bundle, scratch: Path) -> None:
    """The container's own variables are not edited twice; a process from a file is edited as well."""
    asking(gpu, bundle)
    assert gpu.call("exec", bundle.id, *LOOK).stdout == SEEN
    process = {"args": LOOK, "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}}
    (scratch / "process.json").write_text(json.dumps(process))
    assert gpu.call("exec", "--process", scratch / "process.json", bundle.id).stdout == SEEN
    edited = gpu.call("explain", "--format", "json", "--exec", scratch / "process.json", bundle.path)
    assert [change["path"] for change in json.loads(edited.stdout)["edited"]] == ["process.env[1]"]


def test_limits_are_changed_of_what_the_container_is(gpu: Runtime, bundle: Bundle) -> None:
    asking(gpu, bundle)
    gpu.call("update", "--pids-limit", "77", bundle.id)
    assert gpu.call("exec", bundle.id, *LOOK).stdout == SEEN


def test_what_a_plugin_did_stays_when_it_is_disabled(gpu: Runtime, site: Site, bundle: Bundle) -> None:
    asking(gpu, bundle)
    assert site.runtime("").call("exec", bundle.id, *LOOK).stdout == SEEN


def test_explain_shows_who_edited_what(gpu: Runtime, bundle: Bundle, libraries: Path) -> None:
    bundle.set("annotations", {"org.example.gpu": "true"})
    edited = explain(gpu, bundle)["edited"]
    assert {change["plugin"] for change in edited} == {"gpu"} and {change["what"] for change in edited} == {"added"}
    assert {"destination": "/opt/gpu", "type": "bind", "source": str(libraries)}.items() <= edited[1]["after"].items()
    table = gpu.call("explain", bundle.path).stdout
    assert "config.json, edited by plugin gpu" in table
    assert '"GPU_LIBRARIES=/opt/gpu"' in table


def test_an_error_about_what_a_plugin_added_names_it(gpu: Runtime, bundle: Bundle, libraries: Path) -> None:
    """While the plan is made, and while it runs."""
    bundle.set("annotations", {"org.example.gpu": "true"})
    (libraries / "libgpu.so").unlink()
    libraries.rmdir()
    result = gpu.create(bundle, check=False)
    assert result.returncode == 1 and "(plugin 'gpu' added mounts[" in result.stderr
    config = libraries.parent / "config.toml"
    config.write_text(config.read_text().replace("major = 1", 'major = "one"'))
    result = gpu.call("explain", bundle.path, check=False)
    assert result.returncode == 1 and "(plugin 'gpu' added linux.devices[0])" in result.stderr
    assert "config.json:0" not in result.stderr


def test_explain_finds_a_stage_by_both_its_names(site: Site, bundle: Bundle) -> None:
    site.install("site_hostname")
    runtime = site.runtime(SITE_HOSTNAME)
    bundle.set("hostname", "web")
    for name in ("namespaces", "site-hostname"):
        found = json.loads(runtime.call("explain", "--format", "json", "--stage", name, bundle.path).stdout)
        assert "sethostname(web.example.org)" in [step["what"] for step in found["steps"]]


def test_a_stage_that_is_disabled_does_nothing(site: Site, scratch: Path, bundle: Bundle) -> None:
    hooks = {"createRuntime": [{"path": "/bin/touch", "args": ["touch", f"{scratch}/hooked"]}]}
    bundle.set("hooks", hooks).set("process.args", ["true"])
    runtime = site.runtime('disable = ["hooks"]')
    assert "hooks" not in stages(explain(runtime, bundle))
    runtime.output(bundle)
    assert not (scratch / "hooked").exists()


def test_plan_without_a_process(site: Site, bundle: Bundle) -> None:
    """A plan without a process is refused and leaves nothing."""
    for name, message in (
        ("namespaces", "nothing in the plan creates the container's process"),
        ("handoff", "the plan ended without starting the container's process"),
    ):
        result = site.runtime(f'disable = ["{name}"]').create(bundle, check=False)
        assert result.returncode == 1
        assert message in result.stderr


def lifecycle(runtime: Runtime, bundle: Bundle, round: int) -> list[object]:
    """What a container's life looks like from outside; numbers and times that differ anyway left out."""
    seen: list[object] = [explain(runtime, bundle)]
    container = f"{bundle.id}-{round}"
    runtime.create(bundle, container_id=container)
    pid = runtime.pid(container)
    for command in (["start", container], ["kill", container, "KILL"]):
        state = runtime.state(container)
        seen.append({key: value for key, value in state.items() if key not in ("id", "pid", "created")})
        runtime.call(*command)
    seen.append(runtime.wait(pid))
    runtime.delete(container)
    refused = runtime.create(bundle.set("process.args", ["/no/program"]), container_id=container, check=False)
    seen += [refused.returncode, refused.stderr.partition(" msg=")[2]]
    result = runtime.run(bundle.set("process.args", ["sh", "-c", "cat /run/banner; exit 3"]), container_id=container)
    bundle.set("process.args", ["sleep", "1000"])
    return [*seen, result.returncode, result.stdout]


def test_with_and_without_snapshot(site: Site, notes: Path, bundle: Bundle) -> None:
    """A life is the same with and without the snapshot."""
    site.install("banner")
    bundle.set("process.args", ["sleep", "1000"]).set("hooks", {"poststop": [{"path": "/bin/true"}]})
    config = BANNER.format(notes=notes)
    cache = Path("/var/cache/gosudacon")  # of the tests' own mount namespace
    before = set(cache.glob("stages-*"))
    first = lifecycle(site.runtime(config, "--no-snapshot"), bundle, 1)
    assert set(cache.glob("stages-*")) == before
    assert first[-2:] == [3, "hello\n"]
    runtime = site.runtime(config)
    assert lifecycle(runtime, bundle, 2) == first
    (snapshot,) = set(cache.glob("stages-*")) - before
    inode = snapshot.stat().st_ino
    assert lifecycle(runtime, bundle, 3) == first
    assert snapshot.stat().st_ino == inode
    assert list(notes.iterdir()) == []


def witnessed(site: Site, bundle: Bundle) -> Runtime:
    """A runtime with an observer, and hooks in all phases that run in other processes."""
    hook = [{"path": "/bin/true", "timeout": 30}]
    bundle.update({"hooks": {"poststart": hook, "poststop": hook}}).set("process.args", ["/bin/sleep", "1000"])
    site.install("witness")
    return site.runtime('plugins = ["witness"]')


def seen(bundle: Bundle, *phases: str) -> list[str]:
    lines = (bundle.path / "witness").read_text().splitlines()
    return [line for line in lines if line.split()[0] in phases]


POSTSTART = ["started started run the poststart hook /bin/true (at most 30 s)", "started finished well"]
POSTSTOP = ["delete started run the poststop hook /bin/true (at most 30 s)", "delete finished well"]


def test_observers_see_what_start_and_delete_do(site: Site, bundle: Bundle) -> None:
    runtime = witnessed(site, bundle)
    runtime.create(bundle)
    assert seen(bundle, "started", "delete") == [] and seen(bundle, "prepare")
    runtime.start(bundle)
    assert seen(bundle, "started", "delete") == POSTSTART
    runtime.delete(bundle, "--force")
    assert seen(bundle, "started", "delete") == POSTSTART + POSTSTOP


def test_observers_see_what_run_does(site: Site, bundle: Bundle) -> None:
    runtime = witnessed(site, bundle)
    assert runtime.run(bundle.set("process.args", ["/bin/true"])).returncode == 0
    assert seen(bundle, "started", "delete") == POSTSTART + POSTSTOP


def test_observers_see_a_create_that_is_undone(site: Site, bundle: Bundle) -> None:
    runtime = witnessed(site, bundle)
    assert runtime.create(bundle.set("process.args", ["/no/such"]), check=False).returncode == 1
    assert seen(bundle, "started", "delete") == POSTSTOP


def test_observer_fails_later(site: Site, bundle: Bundle) -> None:
    """What observers raise is the step's failure later too."""
    runtime = witnessed(site, bundle)
    runtime.create(bundle)
    (bundle.path / "refuse").write_text("started")
    result = runtime.start(bundle, check=False)
    assert result.returncode == 1 and "refused by the witness" in result.stderr
    (bundle.path / "refuse").write_text("delete")
    assert "refused by the witness" in runtime.delete(bundle, "--force", options=["--debug"]).stderr
    assert runtime.status(bundle) == "none"


def test_an_observer_that_was_removed(site: Site, bundle: Bundle) -> None:
    """start says so; what a container leaves on the host is removed all the same."""
    runtime = witnessed(site, bundle)
    runtime.create(bundle)
    (site.packages / "gosudacon_witness").rename(site.scratch / "removed")
    result = runtime.start(bundle, check=False)
    assert result.returncode == 1 and "cannot import gosudacon_witness" in result.stderr
    assert "cannot import gosudacon_witness" in runtime.delete(bundle, "--force", options=["--debug"]).stderr
    assert runtime.status(bundle) == "none"


@needs("criu")
@pytest.mark.parametrize("gpu", ["with"], indirect=True)
@pytest.mark.vm
def test_restored_is_edited(gpu: Runtime, bundle: Bundle, scratch: Path) -> None:
    """A container that is restored is edited as when it was created."""
    # A sleep that was interrupted by the checkpoint may be over when it is restored.
    bundle.set("process.args", ["sh", "-c", "while :; do sleep 0.1; done"])
    asking(gpu, bundle)
    pid = gpu.pid(bundle)
    gpu.call("checkpoint", "--image-path", scratch / "images", bundle.id, limit=60)
    gpu.wait(pid)
    gpu.call("restore", "--detach", "--image-path", scratch / "images", "--bundle", bundle.path, bundle.id, limit=60)
    assert gpu.call("exec", bundle.id, *LOOK).stdout == SEEN
    kept = json.loads((gpu.root / bundle.id / "config.json").read_text())
    assert [mount["destination"] for mount in kept["mounts"]].count("/opt/gpu") == 1
    assert (gpu.root / bundle.id / "original.json").read_bytes() == (bundle.path / "config.json").read_bytes()


# A container's end.


@pytest.fixture
def obituary(site: Site) -> Runtime:
    """A runtime with a plugin that writes down how containers end."""
    site.install("obituary")
    return site.runtime('plugins = ["obituary"]')


@pytest.mark.parametrize(
    ("script", "status", "signal"), [("exit 3", 3, 0), ("kill -9 $$", 137, 9), ("exit 137", 137, 0)]
)
def test_told_of_an_end(obituary: Runtime, bundle: Bundle, script: str, status: int, signal: int) -> None:
    bundle.set(
        "process.args", ["/bin/sh", "-c", f"sh -c '{script}'; exit $?"] if not signal else ["/bin/sh", "-c", script]
    )
    bundle.config["linux"]["namespaces"] = [
        each for each in bundle.config["linux"]["namespaces"] if each["type"] != "pid"
    ]  # where SIGKILL of its own ends init
    bundle.set("annotations", {"colour": "blue"})
    assert obituary.call("run", "--bundle", bundle.path, bundle.id, check=False).returncode == status
    (line,) = (bundle.path / "ended").read_text().splitlines()
    told = json.loads(line)
    assert (told["id"], told["status"], told["signal"], told["out_of_memory"]) == (bundle.id, status, signal, False)
    assert told["annotations"] == {"colour": "blue"} and told["pid"] > 1 and told["time"] > 10**18


def test_not_told_of_an_end_that_is_not_waited_for(obituary: Runtime, bundle: Bundle) -> None:
    obituary.call("run", "--detach", "--bundle", bundle.path, bundle.id)
    obituary.call("delete", "--force", bundle.id)
    assert not (bundle.path / "ended").exists()


def test_a_plugin_that_fails_at_the_end(obituary: Runtime, bundle: Bundle, scratch: Path) -> None:
    """It is logged, and changes nothing."""
    bundle.set("process.args", ["/bin/sh", "-c", "exit 4"]).set("annotations", {"fail": "yes"})
    log = scratch / "log"
    result = obituary.call("run", "--bundle", bundle.path, bundle.id, options=["--log", log], check=False)
    assert result.returncode == 4
    assert "the obituary is not printed" in log.read_text()


def test_a_plugin_that_hangs_at_the_end(obituary: Runtime, bundle: Bundle, scratch: Path) -> None:
    """It is killed."""
    bundle.set("process.args", ["/bin/sh", "-c", "exit 5"]).set("annotations", {"hang": "yes"})
    log = scratch / "log"
    result = obituary.call("run", "--bundle", bundle.path, bundle.id, options=["--log", log], check=False)
    assert result.returncode == 5
    assert "killed after 10 seconds" in log.read_text()


def test_explain_shows_who_is_told_of_the_end(obituary: Runtime, bundle: Bundle) -> None:
    last = explain(obituary, bundle)["steps"][-1]
    assert (last["stage"], last["side"]) == ("plugins", "runtime") and "tell obituary" in last["what"]
    assert "tell obituary" in " ".join(obituary.call("explain", bundle.path).stdout.split())
