"""The hooks that a plugin may implement, documented; pluggy calls them hook specifications.

A plugin is a module. Its functions with these names have the decorator `gosudacon.api.hookimpl`, are at the top
level of the module, and may leave out arguments that they do not need. The plugin that config.toml enables last is
called first; ``hookimpl(tryfirst=True)`` and ``hookimpl(trylast=True)`` change that, as in pluggy. There are no
hook wrappers. docs/plugin-tutorial.md is where to begin.
"""

from __future__ import annotations

import pluggy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from gosudacon.api import Context, Edit, EndedContainer, Error, Exit, Features, Host, Plan, Spec, Stage, Step

hookspec = pluggy.HookspecMarker("gosudacon")


@hookspec
def gosudacon_stages() -> list[Stage]:  # type: ignore[empty-body]
    """Contribute stages.

    Called when stages are looked for, not for every container: the snapshot remembers the result. The classes must be
    at the top level of their modules and take no constructor arguments. `Stage` says what a stage is.
    """


@hookspec
def gosudacon_features(settings: Mapping[str, object]) -> Features:  # type: ignore[empty-body]
    """Say what the plugin adds to the features structure (runtime-spec features.md), which `features` prints.

    For what depends on ``settings``, which are ``[plugin.NAME]`` of config.toml, such as the annotations that the
    administrator lets containers use, and for a plugin without a stage; a stage has `Stage.features`. Changes nothing.
    """


@hookspec
def gosudacon_gather_facts(spec: Spec, host: Host, settings: Mapping[str, object]) -> object:
    """Look at the host for what the plugin's planning needs to know: the one place where it may read.

    Returns JSON data, which ``host.facts[PLUGIN]`` is from then on, read-only: for the plugin's `gosudacon_edit_spec`,
    its stages and its amendments, which stay pure. Called right before that edit, or, of a plugin that edits nothing,
    when all edits are done, before planning; ``spec``, ``host`` and ``settings`` are as there. Changes nothing. Called
    by `explain`, too, without root: what cannot be read is a fact. Nothing that the container's author names is opened.
    Raises `ConfigError` or `SettingsError` where the container cannot be made.
    """


@hookspec
def gosudacon_edit_spec(spec: Spec, host: Host, settings: Mapping[str, object]) -> Edit | None:
    """Change a container's configuration before it is validated: devices, variables, mounts, hooks, anything else.

    Returns an `Edit`, or None to leave the container as it is. Pure: it reads no file, changes
    nothing, and gives the same answer for the same arguments. ``spec.config`` is what config.json says with the edits
    of the plugins called before, read-only and not validated yet: look with ``get``. ``settings`` is
    ``[plugin.NAME]`` of config.toml.

    Called by ``create``, ``run``, ``restore``, ``exec``, ``update`` and ``explain``; ``spec.operation`` says for which:

    - ``create`` (``run``, too) and ``restore``: the configuration is the bundle's. What comes out is what the
      container is made from, and is kept for later commands.
    - ``exec``: the configuration is the one kept, with the process to be executed in ``process``, which no plugin has
      edited yet. Only edits of ``process`` count, since the rest has been done.
    - ``update``: the configuration is the one kept, with the limits to be set in ``linux.resources``. Only edits of
      those count.

    A plugin that edits without a look at ``spec.operation`` therefore does the same to every process of the container,
    and nothing twice. The result of all plugins is validated as if it had been written so; an error about something
    that a plugin has put there names the plugin. `explain` lists every edit.
    """


@hookspec
def gosudacon_amend_plan(plan: Plan, spec: Spec, host: Host) -> None:
    """Change a finished plan: `Plan.insert_before`, `Plan.insert_after`, or ``plan.steps`` itself.

    Called for every plan, of ``create``, ``exec``, ``restore``, ``update`` and ``explain``; ``spec.operation`` says for
    which. Pure, as planning is. No step of ``exec`` may last. Of ``restore``, the plan has the steps that start CRIU.
    `explain` shows which plugin added, changed or dropped which step.
    """


@hookspec
def gosudacon_step_started(step: Step, context: Context) -> None:
    """A step is about to run, on the side and in the process that runs it.

    On the container's side that is behind the wall: nothing can be imported. What the hook raises is the step's
    failure. Undoing is not observed.
    """


@hookspec
def gosudacon_step_finished(step: Step, context: Context, error: Error | None) -> None:
    """A step has run; ``error`` is what it raised. The last step of all, execve(2), never finishes.

    Otherwise as `gosudacon_step_started`.
    """


@hookspec
def gosudacon_container_exited(container: EndedContainer, exit: Exit) -> None:
    """A container's first process has ended.

    Called once, by the process that waits for it: a ``run`` or ``restore`` in the foreground, or gosudacon's shim for
    containerd. It is not called for a container that a detached command made. The hook runs in a process of its own, on
    the host, without the container's streams; it may import, read and write. All plugins together have ten seconds;
    then the process is killed. The container may be deleted meanwhile. What the hook raises is logged.
    """
