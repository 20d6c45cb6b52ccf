"""Who has which address: one file for each bridge, read and written under a lock that all creates and deletes share.

The file also says what was done for the bridge beside making it, so that the last container can undo it even if
the settings have changed since. It is written before the effects it speaks of, and again after they are undone:
a process killed in between leaves a lease, and with it the work, to the next one.
"""

from __future__ import annotations

import fcntl

from gosudacon.api import Error
from gosudacon.base import jsonio, posix
from gosudacon.plugins.network import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    class Lease(TypedDict, total=False):
        """What a container has of a network, as it is in the file."""

        id: str
        owner: list[str | int]  # the state directory: path, device, inode
        addresses: dict[str, str]
        names: list[str]
        gateways: list[str]
        networks: list[list[str]]  # bridge and link of each
        ports: list[str]

    class Leases(TypedDict, total=False):
        """The file: see `Book`."""

        version: int
        leases: dict[str, Lease]
        last: dict[str, str]
        forwarding: list[str]
        nft: str
        subnets: list[str]
        nat: bool
        stale: bool

    from gosudacon.api import Context
    from gosudacon.plugins.network.subnets import Subnet

_VERSION = 1
_LIMIT = 64 << 20  # bytes of a lease file; 65,000 leases are some 20 MB


class Book:
    """The leases of one bridge.

    ``leases`` maps the name of a container's link to ``{"id", "owner", "addresses"}``, and once it has names (see
    `names.WriteNames`) ``names``, ``gateways`` and ``networks``; ``last`` a subnet to the address given out last;
    ``forwarding`` lists the switches below /proc/sys/net turned on for this bridge; ``nft`` is the program that made
    the bridge's table, or empty, ``subnets`` and ``nat`` are what is in that table beside the published ports, which
    are in the leases (``ports``); ``stale``: ports are in the table of which the lease is gone.
    """

    def __init__(self, directory: int, bridge: str) -> None:
        self._directory = directory
        self._bridge = bridge
        self._name = f"{bridge}.json"
        self._temporary = _temporary(bridge)
        data = self._read()
        self.leases: dict[str, Lease] = data.get("leases", {})
        self.last: dict[str, str] = data.get("last", {})
        self.forwarding: list[str] = data.get("forwarding", [])
        self.nft: str = data.get("nft", "")
        self.subnets: list[str] = data.get("subnets", [])
        self.nat: bool = data.get("nat", False)
        self.stale: bool = data.get("stale", False)

    @property
    def bridge(self) -> str:
        """The name of the bridge."""
        return self._bridge

    @property
    def lock(self) -> int:
        """The descriptor that holds the lock."""
        return self._directory

    def of(self, bridge: str) -> Book:
        """The book of another bridge, under the same lock."""
        return self if bridge == self._bridge else Book(self._directory, bridge)

    def published(self) -> list[tuple[str, str]]:
        """The ports that containers of this host have published, on whatever bridge: id and text of each."""
        found = []
        for name in posix.listdir(self._directory):
            bridge = name.removesuffix(".json")
            if bridge != name and not bridge.startswith("."):
                leases = self.of(bridge).leases.values()
                found += [(lease["id"], text) for lease in leases for text in lease.get("ports", ())]
        return found

    def take(self, link: str, subnets: list[Subnet], context: Context) -> dict[str, str]:
        """Book an address of every subnet for a container; returns subnet -> address. Raises `Error` if one is full."""
        used = {address for lease in self.leases.values() for address in lease["addresses"].values()}
        addresses = {}
        for subnet in subnets:
            address = subnet.next_free(used, self.last.get(subnet.text, ""))
            if not address:
                raise Error(
                    f"no address is left in {subnet.text}; in use: {len(self.leases)}",
                    hint="delete containers, or name a larger subnet in [stage.network] subnets",
                )
            addresses[subnet.text] = self.last[subnet.text] = address
        self.leases[link] = {"id": context.spec.id, "owner": _owner(context), "addresses": addresses}
        self.save()
        return addresses

    def is_another(self, link: str, context: Context) -> bool:
        """Whether the link is booked by a container other than the context's: one of the same id and place, before."""
        lease = self.leases.get(link)
        return lease is not None and lease["owner"][1:] != _owner(context)[1:]

    def reclaim(self) -> None:
        """Drop the leases of containers that are gone without having been deleted.

        A container is gone when neither its state directory nor its link is there: a running one keeps
        its address, and so does one that is being created or deleted.
        """
        left = {link: lease for link, lease in self.leases.items() if _present(link, lease["owner"])}
        self.stale |= any(lease.get("ports") for link, lease in self.leases.items() if link not in left)
        self.leases = left

    def save(self) -> None:
        """Write the file atomically; remove it when no lease is left."""
        if not self.leases:
            try:
                posix.unlink(self._name, dir_fd=self._directory)
            except FileNotFoundError:
                pass
            return
        data = {key: value for key, value in vars(self).items() if not key.startswith("_")}
        flags = posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | posix.O_NOFOLLOW | posix.O_CLOEXEC
        fd = posix.open(self._temporary, flags, 0o600, dir_fd=self._directory)
        try:
            posix.write_all(fd, jsonio.dumps({"version": _VERSION, **data}, 1).encode(), self._name)
        finally:
            posix.close(fd)
        posix.rename(self._temporary, self._name, src_dir_fd=self._directory, dst_dir_fd=self._directory)

    def _read(self) -> Leases:
        try:
            fd = posix.open(self._name, posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_CLOEXEC, dir_fd=self._directory)
        except FileNotFoundError:
            return {}
        with open(fd, "rb") as file:
            text = file.read(_LIMIT)
        try:
            data = jsonio.loads(text)
        except jsonio.JSONError:
            data = None
        if not isinstance(data, dict) or data.get("version") != _VERSION:
            raise Error(
                f"{self._name}: not a lease file of this version of gosudacon",
                hint="see [stage.network] leases; without the file, addresses in use would be given out again",
            )
        return data  # type: ignore[return-value]  # of ours: its version says so


class opened:
    """The book of a bridge, while the lock on the directory ``path`` is held; the directory is made if need be."""

    def __init__(self, path: str, bridge: str) -> None:
        self._path = path
        self._bridge = bridge

    def __enter__(self) -> Book:
        self._fd = _locked(self._path)
        try:
            return Book(self._fd, self._bridge)
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        try:
            posix.unlink(
                _temporary(self._bridge), dir_fd=self._fd
            )  # of a process that was killed, or could not write it
        except FileNotFoundError:
            pass
        try:
            posix.rmdir(self._path)
        except OSError:  # not empty: other leases
            pass
        posix.close(self._fd)


def _temporary(bridge: str) -> str:
    return f".{bridge}.json.new"


def _locked(path: str) -> int:
    """The directory, locked. Whoever leaves it empty removes it, so what was locked may be gone already."""
    while True:
        _make_directory(path)
        try:
            fd = posix.open(path, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            mine = posix.fstat(fd)
            if mine.st_uid != posix.geteuid() or mine.st_mode & 0o022:
                raise Error(f"{path} must belong to root and be writable only by its owner")
            if _is_at(path, mine.st_dev, mine.st_ino):
                return fd
        except BaseException:
            posix.close(fd)
            raise
        posix.close(fd)


def _make_directory(path: str) -> None:
    """Make the directory, or else its parents; os.makedirs fails when what it finds is gone before it looks again."""
    try:
        posix.mkdir(path, 0o700)
    except FileExistsError:
        pass
    except FileNotFoundError:
        posix.makedirs(posix.path.dirname(path), 0o755, exist_ok=True)


def _owner(context: Context) -> list[str | int]:
    """The container's state directory: its path, device and inode."""
    if context.state_dir < 0:
        return ["", 0, 0]
    status = posix.fstat(context.state_dir)
    return [posix.readlink(f"/proc/self/fd/{context.state_dir}"), status.st_dev, status.st_ino]


def _present(link: str, owner: list[str | int]) -> bool:
    path, device, inode = owner
    return _is_at(str(path), int(device), int(inode)) or kernel.exists(link)


def _is_at(path: str, device: int, inode: int) -> bool:
    """Whether this very file is at the path."""
    try:
        status = posix.stat(path)
    except OSError:
        return False
    return (status.st_dev, status.st_ino) == (device, inode)
