"""The state of one container, and the list of all."""

from __future__ import annotations

from gosudacon.base import posix
from gosudacon.base.errors import Error, StateError, reason
from gosudacon.container.state import OCI_VERSION, AbsentError, Container, Store, UnreadableError


def state(root: str, id: str) -> dict[str, object]:
    """What ``gosudacon state`` prints. Raises `StateError` if there is no such container."""
    store = Store(root, id)
    store.open()
    try:
        return describe(Container.load(store))
    finally:
        store.close()


def describe(container: Container, owner: str = "") -> dict[str, object]:
    """The state object that callers of runc know: OCI's, with rootfs, created and owner.

    Of a container that got addresses, and of no other, they are a member more: ``addresses``, device -> addresses.
    Its published ports, if it has any, are another: ``ports``.
    """
    data = container.data
    status = container.status()
    result = {
        "ociVersion": OCI_VERSION,
        "id": data["id"],
        "pid": 0 if status == "stopped" else data["pid"],
        "status": status,
        "bundle": data["bundle"],
        "rootfs": data["rootfs"],
        "created": data["created"],
        "annotations": data["annotations"],
        "owner": owner,
    }
    if not data["annotations"]:
        del result["annotations"]
    if "addresses" in data:
        result["addresses"] = data["addresses"]
        if data.get("ports"):
            result["ports"] = data["ports"]
    return result


def everything(root: str, explicit: bool) -> tuple[list[dict[str, object]], list[Error]]:
    """The states of all containers below ``root``, and what was wrong with those that cannot be read.

    Of these the status is ``unknown``, and nothing is known but the id. A root that does not exist has no containers;
    it is an error if the caller named it (``explicit``).
    """
    try:
        names = sorted(posix.listdir(root))
    except FileNotFoundError:
        if explicit:
            raise Error(f"open {root}: no such file or directory") from None
        return [], []
    found: list[dict[str, object]] = []
    broken: list[Error] = []
    for name in names:
        store = Store(root, name)
        try:
            store.open()
            found.append(describe(Container.load(store), _owner(store)))
        except AbsentError:  # about to be one, or no more
            continue
        except (Error, OSError) as error:
            if not posix.path.isdir(f"{root}/{name}"):
                continue
            if isinstance(error, UnreadableError):
                found.append(_unknown(store))
            broken.append(StateError(f"load container {name}: {reason(error)}"))
        finally:
            store.close()
    return found, broken


def _unknown(store: Store) -> dict[str, object]:
    """The state of a container whose state.json cannot be read."""
    return {
        "ociVersion": OCI_VERSION,
        "id": store.id,
        "pid": 0,
        "status": "unknown",
        "bundle": "",
        "rootfs": "",
        "created": "0001-01-01T00:00:00Z",  # Go's zero: an empty string is a time that its callers cannot read
        "owner": _owner(store),
    }


def _owner(store: Store) -> str:
    import pwd

    uid = posix.fstat(store.fd).st_uid
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
