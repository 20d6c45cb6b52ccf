"""Reading specification files, JSON and YAML, where only root and the caller can write."""

from __future__ import annotations

from gosudacon.base import posix, trusted
from gosudacon.base.errors import reason
from gosudacon.base.trusted import Unusable
from gosudacon.plugins.cdi import document
from gosudacon.plugins.cdi.cache import Cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from gosudacon.plugins.cdi.document import Document

_SUFFIXES = (".json", ".yaml")
_LONGEST = 4  # MiB


def read(directory: str) -> Iterator[tuple[str, Document | Unusable]]:
    """Path -> contents, or why it cannot be read, for every specification file of a directory, by name."""
    try:
        fd = trusted.open_directory(directory)
    except FileNotFoundError:
        return
    except Unusable as error:
        yield directory, error
        return
    except OSError as error:
        yield directory, Unusable(reason(error))
        return
    try:
        cache = Cache(directory)
        for name in sorted(posix.listdir(fd)):
            if name.endswith(_SUFFIXES):
                path = f"{directory.rstrip('/')}/{name}"
                yield path, _document(path, name, fd, cache)
        cache.save()
    finally:
        posix.close(fd)


def _document(path: str, name: str, directory: int, cache: Cache) -> Document | Unusable:
    try:
        fd = trusted.open_file(path, name, directory)
        try:
            status = posix.fstat(fd)
            found = cache.get(name, status)
            if found is None:
                found = document.check(_parsed(name, trusted.read(fd, _LONGEST).decode()))
                cache.put(name, status, found)
            return found
        finally:
            posix.close(fd)
    except Unusable as error:
        return error
    except OSError as error:
        return Unusable(reason(error))
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        return Unusable(str(error))


def _parsed(name: str, text: str) -> object:
    return _json(text) if name.endswith(".json") else _yaml(text)


def _json(text: str) -> object:
    import json

    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = next(name for index, (name, _) in enumerate(pairs) if name in dict(pairs[:index]))
            raise Unusable(f"{twice!r} is there twice in one object")
        return found

    value: object = json.loads(text, object_pairs_hook=once)
    return value


def _yaml(text: str) -> object:
    try:
        import yaml
    except ImportError:
        raise Unusable("is YAML, which needs PyYAML: pip install gosudacon[cdi]") from None
    loader = None
    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
        node = loader.get_single_node()
        _check_once(node, set())
        value: object = loader.construct_document(node)
        return value
    except yaml.YAMLError as error:
        raise Unusable(" ".join(str(error).split())) from None
    finally:
        if loader is not None:
            loader.dispose()


def _check_once(node: object, seen: set[int]) -> None:
    """Raise `Unusable` for a mapping with one name twice; each node is looked at once, whatever refers to it."""
    if id(node) in seen:
        return
    seen.add(id(node))
    value = getattr(node, "value", None)
    if not isinstance(value, list):
        return
    names = set()
    for element in value:
        parts = element if isinstance(element, tuple) else (element,)
        if len(parts) == 2:
            name = getattr(parts[0], "value", None)
            if isinstance(name, str) and name in names:
                raise Unusable(f"{name!r} is there twice in one mapping, line {parts[0].start_mark.line + 1}")
            names.add(name if isinstance(name, str) else id(parts[0]))
        for part in parts:
            _check_once(part, seen)
