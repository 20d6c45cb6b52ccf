"""ADD of one plug-in, and what its result means for the container: addresses, name servers."""

from __future__ import annotations

from gosudacon.api import Context, Error
from gosudacon.base import posix
from gosudacon.plugins.cni import namespace, record, results
from gosudacon.plugins.cni.calls import INCOMPATIBLE, Call, PluginError
from gosudacon.plugins.netcommon import files, ports, resolver, sockets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gosudacon.plugins.cni.record import Record


def add(context: Context, noted: Record, attachment: int, plugin: int) -> dict[str, object]:
    """Call it; returns its result, which the next one gets. Raises `Error`, OSError."""
    where = namespace.path(context, noted.namespace)
    if not where:
        raise Error("the container's network namespace is not where it was bound: something has unmounted it")
    lock = noted.lock()
    try:
        call = Call(noted.header, noted.header["attachments"][attachment], plugin, where, lock)
        noted.add({"event": record.BEGIN, "call": (attachment, plugin)})
        try:
            result = call.add(noted.results.get(attachment))
        except PluginError as error:
            noted.add({"event": record.FAILED, "call": (attachment, plugin), "answer": error.answer})
            if error.code == INCOMPATIBLE:
                error.hint = _versions(call)
            raise
        noted.add({"event": record.ADDED, "call": (attachment, plugin), "result": result})
        return result
    finally:
        posix.close(lock)


def port_mappings(
    wanted: Iterable[str], taken: Iterable[tuple[str, ports.Port]] = ()
) -> tuple[list[dict[str, object]], list[str]]:
    """Ports in the form of CONVENTIONS.md and in that of ``--publish``, with free ones where none were named.

    ``taken`` are those of other containers, with the id of each. Raises `Error` for one of these, one that a process of
    the host has, or at an address that is not the host's.
    """
    found = sockets.settle([ports.parse(text) for text in wanted], taken)
    mappings = [
        {
            "hostPort": port.host + index,
            "containerPort": port.container + index,
            "protocol": port.protocol,
            **({"hostIP": port.address} if port.address else {}),
        }
        for port in found
        for index in range(port.count)
    ]
    return mappings, [str(port) for port in found]


def write_names(context: Context, found: Sequence[dict[str, object]], names: Iterable[str]) -> None:
    """Write the container's resolv.conf and hosts, as far as it has them of us. Raises OSError."""
    told = [results.normal(each)["dns"] for each in found]
    servers = [server for dns in told for server in dns.get("nameservers", ())]
    search = [domain for dns in told for domain in (*dns.get("search", ()), *filter(None, (dns.get("domain"),)))]
    options = [option for dns in told for option in dns.get("options", ())]
    known = resolver.of_host().replaced(*([*dict.fromkeys(each)] for each in (servers, search, options)))
    files.write(context, files.RESOLV_CONF, known.text())
    own = [address.partition("/")[0] for each in context.addresses.values() for address in each]
    line = " ".join(names)
    files.write(context, files.HOSTS, files.LOCALHOST + "".join(f"{address} {line}\n" for address in own if line))


def _versions(call: Call) -> str:
    try:
        return (
            f"{call.name} supports {', '.join(call.versions())}: write one of these as cniVersion in the configuration"
        )
    except Error:
        return ""
