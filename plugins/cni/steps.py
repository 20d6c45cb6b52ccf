"""The steps of stage ``cni``; all of them run in the runtime. What calls plug-ins is imported by `run` and `undo`."""

from __future__ import annotations

from gosudacon.api import CREATE_CONTAINER, CREATE_RUNTIME, Context, Error, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.plugins.cni.record import Attachment, Header, Record

_HINT = "once the cause is gone, delete it again: what the plug-in has made stays until then, and so does the container"
_MODULES = tuple(f"gosudacon.{name}" for name in ("plugins.cni.undoing", "linux.child", "linux.mount", "linux.netlink"))


class Done:
    """What the steps leave for each other: the record, and the results, one for each attachment that is complete."""

    def __init__(self) -> None:
        self.record: Record | None = None
        self.results: dict[int, dict[str, object]] = {}

    def noted(self) -> Record:
        """The record that `WriteNote` has made."""
        assert self.record is not None
        return self.record


class WriteNote(Step):
    """Write down what will be asked of which plug-in, as DEL will need it, before any of them is called.

    ``container`` is the name that plug-ins know the container by: ids are unique below one ``--root`` only. ``ports``
    are for the attachment ``publishes``; for those without a port of the host, one is found that is free. One that
    another container has is refused.

    Why: what plug-ins make is theirs, and only they can take it away, asked in the same words.
    Without it: after a kill, or a change of the configuration, addresses and rules would stay for good.
    See: docs/cni.md; CNI's SPEC.md, Section 2, DEL.
    """

    phase = CREATE_RUNTIME
    by = CREATE_CONTAINER
    container: str
    bin_dirs: list[str]
    timeout: int
    args: dict[str, str]
    attachments: list[Attachment]
    ports: list[str]
    publishes: int

    def describe(self) -> str:
        files = [f"{each['name']} ({each['file']})" for each in self.attachments]
        return f"note what undoes it: CNI {'networks' if files[1:] else 'network'} {', '.join(files)}"

    def run(self, context: Context) -> None:
        from gosudacon.plugins.cni import calls, record

        header: Header = {
            "id": self.container,
            "bin_dirs": [*self.bin_dirs],
            "timeout": self.timeout,
            "args": {**self.args},
            "attachments": [{**each} for each in self.attachments],
        }
        for attachment in header["attachments"]:
            if attachment["versions"]:
                asked = [calls.Call(header, attachment, at, "", -1) for at in range(len(attachment["plugins"]))]
                attachment["version"] = calls.common_version(asked, attachment["versions"])
        context.own(Done).record = (self._publishing if self.ports else record.Record.create)(context, header)

    def _publishing(self, context: Context, header: Header) -> Record:
        from gosudacon.plugins.cni import adding, neighbours, record
        from gosudacon.plugins.cni.document import PORT_MAPPINGS

        with neighbours.published(context) as taken:
            mappings, context.ports = adding.port_mappings(self.ports, taken)
            header["attachments"][self.publishes]["runtime"] = {PORT_MAPPINGS: mappings}
            return record.Record.create(context, header)


class PinNamespace(Step):
    """Bind the container's network namespace on a file in the state directory, so that it is there for DEL.

    Why: plug-ins look up in the namespace what they have made, also when the container's processes are dead.
    Without it: DEL would succeed, and rules of packet filters would stay.
    See: network_namespaces(7); docs/cni.md.
    """

    phase = CREATE_RUNTIME
    by = CREATE_CONTAINER
    lasts = True
    recorded_as = ("cni.pin-namespace", 1)
    modules = _MODULES

    def describe(self) -> str:
        return "bind the network namespace on cni.netns in the state directory"

    def run(self, context: Context) -> None:
        from gosudacon.plugins.cni import namespace

        context.own(Done).noted().add({"event": "pin", "namespace": namespace.identity(context.pid)})
        namespace.pin(context)

    def undo(self, context: Context) -> None:
        """Let go, unless a plug-in has failed to undo: it will need the namespace when it is asked again."""
        from gosudacon.plugins.cni import undoing

        undoing.finish(context)


class AddNetwork(Step):
    """Have one plug-in of a network's chain do its part: ADD. Undoing it is DEL, in reverse order.

    ``attachment`` and ``plugin`` say which, in the order of `WriteNote`; ``network`` and ``kind`` are their names,
    ``interface`` that of the link in the container, ``ports`` what the plug-in publishes, ``last`` whether its result
    is the network's.

    Why: links, addresses and rules of a CNI network are made by programs of the host, one after the other.
    Without it: the container would not have what this plug-in gives.
    See: docs/cni.md; CNI's SPEC.md, Section 3.
    """

    phase = CREATE_RUNTIME
    by = CREATE_CONTAINER
    lasts = True
    recorded_as = ("cni.add-network", 1)
    modules = _MODULES
    attachment: int
    plugin: int
    network: str
    kind: str
    interface: str
    ports: list[str]
    last: bool

    def describe(self) -> str:
        ports = f", {', '.join(self.ports)}" if self.ports else ""
        return f"CNI ADD {self.network}/{self.kind}: {self.interface}{ports}"

    def run(self, context: Context) -> None:
        from gosudacon.plugins.cni import adding, results

        done = context.own(Done)
        result = adding.add(context, done.noted(), self.attachment, self.plugin)
        if self.last:
            done.results[self.attachment] = result
            context.addresses[self.interface] = results.addresses(result, self.interface)

    def undo(self, context: Context) -> None:
        from gosudacon.plugins.cni import undoing

        try:
            undoing.delete(context, self.attachment, self.plugin)
        except Error as error:
            error.hint = error.hint or _HINT
            raise


class WriteNames(Step):
    """Write what the results say into the files that the container looks up names with.

    ``names`` are the container's own. Where no result has name servers, the host's are used.

    Why: only ADD tells the addresses, of the container and of name servers.
    Without it: the container would know neither its own name nor a name server.
    See: resolv.conf(5); hosts(5); CNI's SPEC.md, "DNS".
    """

    phase = CREATE_RUNTIME
    by = CREATE_CONTAINER
    names: list[str]

    def describe(self) -> str:
        return "write resolv.conf and hosts from the results of the networks, or else of the host"

    def run(self, context: Context) -> None:
        from gosudacon.plugins.cni import adding

        done = context.own(Done)
        adding.write_names(context, [done.results[at] for at in sorted(done.results)], self.names)
