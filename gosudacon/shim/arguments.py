"""How containerd calls its shims: flags as Go's package ``flag`` reads them, then one word for what to do."""

from __future__ import annotations

from gosudacon.base.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

NAME = "containerd-shim-gosudacon-v1"  # of the program
WORD = "containerd-shim"  # by which the launcher says that it is this program
_WITH_VALUE = {
    "namespace": "namespace",
    "id": "id",
    "address": "address",
    "publish-binary": "containerd",
    "bundle": "bundle",
    "socket": "socket",
    "debug-socket": "debug_socket",
}
_WITHOUT = {"debug": "debug", "v": "version", "version": "version", "info": "info"}


class Arguments:
    """What was given; what was not is empty."""

    action: str = ""  # start, delete, or nothing
    namespace: str = ""
    id: str = ""
    address: str = ""  # of containerd's GRPC service
    containerd: str = ""  # the program
    bundle: str = ""
    socket: str = ""
    debug_socket: str = ""
    debug: bool = False
    version: bool = False
    info: bool = False


def parse(words: Sequence[str]) -> Arguments:
    """The arguments in ``words``, which has no name of a program. Raises `Error`."""
    arguments = Arguments()
    rest = [*words]
    while rest:
        word = rest.pop(0)
        if not word.startswith("-") or word in ("-", "--"):
            arguments.action = word if word != "--" else rest.pop(0) if rest else ""
            break
        name, assigned, value = word.lstrip("-").partition("=")
        if name in _WITHOUT:
            setattr(arguments, _WITHOUT[name], not assigned or value.lower() in ("1", "t", "true"))
        elif name in _WITH_VALUE:
            if not assigned and not rest:
                raise Error(f"flag needs an argument: -{name}")
            setattr(arguments, _WITH_VALUE[name], value if assigned else rest.pop(0))
        else:
            raise Error(f"flag provided but not defined: -{name}")
    return arguments
