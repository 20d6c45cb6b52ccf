"""Reading network configurations and finding plug-ins, where nobody but root and the caller can write."""

from __future__ import annotations

from _stat import S_ISREG

from gosudacon.api import Error
from gosudacon.base import jsonio, ownership, posix, trusted
from gosudacon.base.errors import reason
from gosudacon.base.trusted import Unusable
from gosudacon.plugins.cni import document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gosudacon.plugins.cni.document import Network

_SUFFIXES = (".conflist", ".conf", ".json")
_LONGEST = 1  # MiB
_PACKAGE = "Debian's package containernetworking-plugins has the usual ones; [plugin.cni] bin_dirs says where they are"


class Networks:
    """The networks of a directory: ``found`` in the order of their files, and ``unusable``, one line for each file."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.found: dict[str, Network] = {}
        self.unusable: list[str] = []
        for path, text in _texts(directory, _SUFFIXES):
            try:
                network = _network(path, text)
            except (ValueError, RecursionError) as error:
                self.unusable.append(f"{path}: {error}")
                continue
            self.found.setdefault(network["name"], network)

    def get(self, name: str) -> Network:
        """The network of this name; of an empty one, the first. Raises `Error` that says what there is."""
        network = self.found.get(name) if name else next(iter(self.found.values()), None)
        if network is not None:
            return network
        what = f"no network {name!r} is configured in {self.directory}" if name else f"no network in {self.directory}"
        known = f"; there are: {', '.join(self.found)}" if self.found else ""
        raise Error("; ".join([what + known, *self.unusable]), hint="a .conflist file describes one: docs/cni.md")


def find(kind: str, directories: Sequence[str]) -> str:
    """The path of the plug-in of a type. Raises `Error` if there is none, or others than root can change it."""
    for directory in directories:
        path = f"{directory.rstrip('/')}/{kind}"
        try:
            status = posix.stat(path)
            if not S_ISREG(status.st_mode) or not status.st_mode & 0o111:
                continue
            if not (ownership.is_safe(path, status) and ownership.is_safe(directory, posix.stat(directory))):
                raise Error(f"{path} and its directory must belong to root and be writable only by their owner")
            return path
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise Error(f"the CNI plug-in {kind}: {reason(error)}") from error
    raise Error(f"the CNI plug-in {kind} is not in {', '.join(directories)}", hint=_PACKAGE)


def _network(path: str, text: bytes | Unusable) -> Network:
    """Raises ValueError."""
    network, more = document.check(_usable(text), path)
    if more:
        for file, found in _texts(f"{posix.path.dirname(path)}/{network['name']}", (".conf",)):
            try:
                network["plugins"].append(document.check_plugin(jsonio.loads(_usable(found))))
            except ValueError as error:
                raise ValueError(f"{file}: {error}") from None
    if not network["plugins"]:
        raise ValueError("names no plug-in")
    return network


def _usable(text: bytes | Unusable) -> bytes:
    if isinstance(text, Unusable):
        raise text
    return text


def _texts(directory: str, suffixes: tuple[str, ...]) -> Iterator[tuple[str, bytes | Unusable]]:
    """Path -> contents, or why there are none, for every such file of a directory, by name."""
    try:
        fd = trusted.open_directory(directory)
    except (FileNotFoundError, NotADirectoryError):
        return
    except (Unusable, OSError) as error:
        yield directory, Unusable(reason(error) if isinstance(error, OSError) else str(error))
        return
    try:
        for name in sorted(posix.listdir(fd)):
            if name.endswith(suffixes):
                path = f"{directory.rstrip('/')}/{name}"
                yield path, _text(path, name, fd)
    finally:
        posix.close(fd)


def _text(path: str, name: str, directory: int) -> bytes | Unusable:
    try:
        fd = trusted.open_file(path, name, directory)
        try:
            return trusted.read(fd, _LONGEST)
        finally:
            posix.close(fd)
    except Unusable as error:
        return error
    except OSError as error:
        return Unusable(reason(error))
