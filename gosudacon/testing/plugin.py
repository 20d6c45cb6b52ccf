"""The fixtures. pytest is imported here and nowhere in the program."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType

import pytest

from gosudacon.api import Host, Spec
from gosudacon.testing import values
from gosudacon.testing.lasting import check_lasting
from gosudacon.testing.planning import Planner
from gosudacon.testing.roots import ScratchRoot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.testing.containers import Containers
    from gosudacon.testing.faults import Report


@pytest.fixture
def oci_spec() -> Callable[..., Spec]:
    """``oci_spec(changes=None, *, id="web", bundle="/srv/web", operation="")``: a valid configuration with changes.

    ``changes`` is merged into what ``gosudacon spec`` writes: objects member by member, anything else as a whole.
    """
    return values.spec


@pytest.fixture
def oci_host() -> Callable[..., Host]:
    """``oci_host(**facts)``: a host with cgroup v2, Linux 6.1 and root, whatever machine the test runs on."""
    return values.host


@pytest.fixture
def oci_plan() -> Planner:
    """``oci_plan(plugin, changes=None, *, settings={}, config={}, spec=None, host=None)``: the plan of a container.

    The plugin is a module, or the name of one that is installed; ``settings`` is ``[plugin.NAME]``, ``config`` other
    keys of config.toml. The test fails if planning reads or changes anything, or gives another plan the second time.
    """
    return Planner()


@pytest.fixture
def oci_root(tmp_path: Path) -> Iterator[ScratchRoot]:
    """An empty root filesystem, ``.path``, and ``.context(spec)`` for steps; needs no root.

    The test fails if anything outside of the root, in the directory above it, has been changed.
    """
    root = ScratchRoot(tmp_path / "oci")
    yield root
    changed = root.close()
    if changed:
        pytest.fail(f"changed outside of the root: {', '.join(changed)}", pytrace=False)


@pytest.fixture
def oci_lasting() -> Callable[..., None]:
    """``oci_lasting(step, context, *directories)``: undo of a lasting step removes what its run made in directories.

    Without a run before it; after one; twice; and by a step that was rebuilt from its record, as ``delete`` does.
    Raises AssertionError.
    """
    return check_lasting


@pytest.fixture
def oci_container(tmp_path: Path) -> Iterator[Callable[..., Containers]]:
    """``oci_container(plugin, settings={}, config={})``: real containers; root only. They are deleted at the end.

    The test is skipped for an ordinary user.
    """
    if os.geteuid() != 0:
        pytest.skip("needs root")
    from gosudacon.testing.containers import Containers

    made: list[Containers] = []

    def make(
        plugin: ModuleType | str | Sequence[ModuleType | str],
        settings: Mapping[str, object] | None = None,
        config: Mapping[str, object] | None = None,
    ) -> Containers:
        made.append(Containers(tmp_path / f"containers{len(made)}", plugin, settings or {}, config or {}))
        return made[-1]

    yield make
    left = [line for containers in made for line in containers.close()]
    if left:
        pytest.fail("left behind:\n  " + "\n  ".join(left), pytrace=False)


@pytest.fixture
def oci_faults(oci_container: Callable[..., Containers]) -> Callable[..., Report]:
    """``oci_faults(plugin, changes=None, *, settings={}, config={}, watch=(), every=True)``: fail at every step.

    A container is created again and again, and one step of it fails each time: those of the plugin by an error before
    and after they have run, and by the death of the process (of the runtime by SIGKILL); all others by an error.
    ``every=False`` leaves the others out. After each, nothing may be left: mounts, cgroups, processes, state, and
    nothing in the directories ``watch``.
    """
    from gosudacon.testing.faults import Sweep

    def sweep(
        plugin: ModuleType | str,
        changes: Mapping[str, object] | None = None,
        *,
        settings: Mapping[str, object] | None = None,
        config: Mapping[str, object] | None = None,
        watch: tuple[Path | str, ...] = (),
        every: bool = True,
    ) -> Report:
        containers = oci_container([plugin, "gosudacon-testing-faults"], settings, config)
        report = Sweep(containers, changes or {}, [Path(path) for path in watch]).run(every)
        if report.problems:
            pytest.fail(f"{len(report.problems)} of {report.count}:\n" + "\n".join(report.problems), pytrace=False)
        return report

    return sweep
