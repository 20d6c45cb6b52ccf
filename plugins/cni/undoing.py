"""DEL: by the note alone, in reverse order, as often as it takes; and letting go of the network namespace."""

from __future__ import annotations

from gosudacon.api import Context, Error
from gosudacon.base import posix
from gosudacon.plugins.cni import namespace, record, results
from gosudacon.plugins.cni.calls import Call, PluginError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.plugins.cni.record import Attachment, Record


class _Tried:
    """The calls that this process has asked plug-ins to undo."""

    def __init__(self) -> None:
        self.calls: set[tuple[int, int]] = set()


def delete(context: Context, attachment: int, plugin: int) -> None:
    """DEL of one plug-in, if its ADD has begun and is not undone. Raises OSError, `Error` with what may be left."""
    noted = record.Record.load(context)
    if noted is not None and (attachment, plugin) in noted.pending():
        _delete(context, noted, (attachment, plugin))


def finish(context: Context) -> None:
    """Undo what no step has been asked to undo, and let go of the namespace once nothing is left. Raises `Error`.

    Of a state that cannot be read, no steps are known: then all is undone here.
    """
    noted = record.Record.load(context)
    failure: Error | None = None
    for call in reversed(noted.pending()) if noted is not None else ():
        if call not in context.own(_Tried).calls:
            try:
                _delete(context, noted, call)  # type: ignore[arg-type]  # there are calls
            except Error as error:
                failure = failure or error
    if failure is not None:
        raise failure
    if noted is not None and noted.pending():
        return  # said by the step that has failed
    namespace.release(context)
    record.remove(context)


def _delete(context: Context, noted: Record, place: tuple[int, int]) -> None:
    context.own(_Tried).calls.add(place)
    attachment = noted.header["attachments"][place[0]]
    lock = noted.lock()
    try:
        where, result = namespace.path(context, noted.namespace), noted.results.get(place[0])
        call, again = Call(noted.header, attachment, place[1], where, lock), place in noted.asked
        cut = not again and noted.calls[place] != record.ADDED
        noted.add({"event": record.DELETE, "call": place})
        try:
            if again and where and result is not None:
                _resume(call, result, where, attachment["interface"])
            call.delete(result)
        except Error as error:
            if not (_refused(noted, place, error) or (cut and _works_again(call, result, error))):
                noted.add({"event": record.FAILED, "call": place})
                error.message += f"; {_left(attachment, result)}"
                raise
        noted.add({"event": record.DELETED, "call": place})
    finally:
        posix.close(lock)


def _resume(call: Call, result: dict[str, object], where: str, interface: str) -> None:
    """Go on with a DEL that was cut short, or failed: it may have taken the link away, and not the rules for it.

    A plug-in looks the addresses up on the link, so there is one again, with one address after the other: of those
    that are done the plug-in complains. What it says in the end, without a link, is what counts.
    """
    for address in results.addresses(result, interface):
        if not namespace.restore_link(where, interface, address):
            return  # it is there
        try:
            call.delete(result)
        except PluginError:
            continue


def _works_again(call: Call, result: dict[str, object] | None, error: Error) -> bool:
    """Whether the plug-in, whose ADD was cut short, has nothing to complain of when it is asked once more.

    The first time it may complain of what it had not made yet, once it has taken away the link by which it looks that
    up: so does bridge of a chain of its packet filter.
    """
    if not isinstance(error, PluginError) or not error.answer:
        return False
    try:
        call.delete(result)
    except Error:
        return False
    return True


def _refused(noted: Record, place: tuple[int, int], error: Error) -> bool:
    """Whether DEL has the answer that ADD had: then the plug-in has refused to work at all, and made nothing.

    With a configuration or version that it does not take, it would never give another one.
    """
    return isinstance(error, PluginError) and bool(error.answer) and error.answer == noted.answers.get(place)


def _left(attachment: Attachment, result: dict[str, object] | None) -> str:
    """What may be left on the host: addresses that nobody else gets, links, published ports."""
    parts = [f"{attachment['interface']} on network {attachment['name']}"]
    if result is not None:
        parts += [each["address"] for each in results.normal(result)["ips"]]
    ports = attachment["runtime"].get("portMappings")
    for port in ports if isinstance(ports, list) else ():
        parts.append(f"port {port['hostPort']}/{port['protocol']} of the host")
    return f"what may be left: {', '.join(parts)}"
