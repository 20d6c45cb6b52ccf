"""The plan of a container that exists, from what is saved of it: its configuration, and how to undo what was done.

The plan is made anew, by this version and for this host as it is now, and compared with what the state has on record of
the one that was run. What no later command needs of `create` is not saved: sockets, descriptors, ``--no-pivot``.
"""

from __future__ import annotations

from gosudacon.base import jsonio, layout, posix
from gosudacon.base.errors import ConfigError, Error
from gosudacon.container import bundle as bundles
from gosudacon.container import host as hosts
from gosudacon.container import shared
from gosudacon.container.explain import Explanation, Refusal, located
from gosudacon.container.state import CGROUP_OPTIONS, AbsentError, Container, Store, check_id
from gosudacon.pipeline import plan as plans
from gosudacon.pipeline.registry import registry
from gosudacon.pipeline.spec import Options, Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.container.state import Data
    from gosudacon.pipeline.spec import Host
    from gosudacon.pipeline.step import Step


def names_one(argument: str) -> bool:
    """Whether an argument is the id of a container: it has no slash, and is not a directory here."""
    if "/" in argument or posix.path.isdir(argument):
        return False
    try:
        check_id(argument)
    except Error:
        return False
    return True


class Existing(Explanation):
    """As `Explanation`, of the container ``id`` below ``root``.

    Raises `StateError` if it does not exist or its state cannot be read, and as `Explanation` does.
    """

    def __init__(self, root: str, id: str, options: Options, host: Host | None = None) -> None:
        self.findings = []
        store = Store(root, id)
        try:
            store.open()
        except AbsentError:
            raise Error(
                f"{id} is neither a bundle nor a container", hint=f"no directory {id} here, no container {id} in {root}"
            ) from None
        try:
            container = Container.load(store)
            config, text = bundles.saved(store), store.read(layout.CONFIG)
            status = container.status()
            notified = layout.NOTIFY in posix.listdir(store.fd)
        finally:
            store.close()
        data = container.data
        self.host = host or hosts.gather()
        self.file = f"{root}/{id}/{layout.CONFIG}"
        chosen = _options(options, data)
        chosen.notify_directory = f"{root}/{id}/{layout.NOTIFY}" if notified else ""
        self.spec = Spec(config, id, data["bundle"], chosen, text)
        self.stages = registry(options.config_file, not options.no_snapshot)
        try:
            self.plan = self.stages.plan(self.spec, self.host, plans.make)
        except ConfigError as error:
            raise Refusal(located(error, self.spec), self.file, self.spec) from error
        self._add_end()
        self.shared = shared.find(self.spec, self.host)
        edited: list[str] = list(data.get("edited") or ())
        differs = _differences(data, self.plan.lasting())
        self.about = {
            "container": id,
            "status": status,
            "created": data["created"],
            "by": str(data.get("gosudacon", "")),
            "edited_by": edited,
            "differs": differs,
        }
        self._head = [f"{status}, created {data['created']} by gosudacon {self.about['by'] or '(an early version)'}"]
        if edited:
            self._head.append(f"config.json as edited by {', '.join(edited)}")
        self._head += [f"on record and not in this plan, or the reverse: {what}" for what in differs]

    def check(self, root: str) -> None:
        """Nothing: it is there already, and what `create` would trip over is itself."""

    def head(self) -> list[str]:
        """What the table says about the container before its plan."""
        return self._head


def _options(options: Options, data: Data) -> Options:
    """What `create` was given, as far as it was saved, for the rest what this command was given."""
    chosen = {name: value for name, value in vars(options).items() if name not in CGROUP_OPTIONS}
    chosen |= {
        **data["cgroup_options"],
        **(data.get("network_options") or {}),
        "no_new_keyring": data["no_new_keyring"],
    }
    return Options.among(chosen)


def _differences(data: Data, lasting: list[Step]) -> list[str]:
    """Lasting steps that are on record and not in the plan, or in it and not on record, in words."""
    from gosudacon.pipeline.kinds import rebuild

    recorded = {_key(record): record for record in data["lasting"]}
    planned = {_key(step.record()): step for step in lasting}
    found = []
    for key, record in recorded.items():
        if key not in planned:
            try:
                found.append(rebuild(record).describe())
            except Exception:  # noqa: BLE001 - of a plugin that is gone, or that cannot describe what it wrote then
                found.append(str(record[0]) if isinstance(record, list) and record else "a step")
    return [*found, *(step.describe() for key, step in planned.items() if key not in recorded)]


def _key(record: object) -> str:
    """A record without what says nothing of the effect, in a form that can be compared."""
    if isinstance(record, list) and len(record) > 2 and isinstance(record[2], dict):
        fields = {name: value for name, value in sorted(record[2].items()) if name not in ("where", "stage", "rank")}
        record = [*record[:2], fields]
    return jsonio.dumps(record)
