"""The bundle: reading and parsing config.json."""

from __future__ import annotations

from gosudacon.base import jsonio, layout, posix
from gosudacon.base.errors import ConfigError, Error
from gosudacon.container.state import UnreadableError
from gosudacon.pipeline.step import Spec
from gosudacon.schema import verdict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.container.state import Store
    from gosudacon.pipeline.step import Options
    from gosudacon.schema.types import Config

_LIMIT = 16 << 20


def load(id: str, bundle: str, options: Options | None = None) -> Spec:
    """The spec of the directory ``bundle``, an absolute path.

    Raises `Error` if there is none, `ConfigError` if it is no JSON object.
    """
    text = read(bundle)
    renamed: list[tuple[str, str]] = []
    return Spec(parse(text, renamed), id, bundle, options, text, renamed=renamed)


def read(bundle: str) -> bytes:
    """The bytes of the bundle's config.json."""
    path = f"{bundle}/{layout.CONFIG}"
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except FileNotFoundError:
        if not posix.path.isdir(bundle):
            raise Error(f"chdir {bundle}: no such file or directory") from None
        raise Error("JSON specification file config.json not found", hint=f"no config.json in {bundle}") from None
    except NotADirectoryError:
        raise Error(f"chdir {bundle}: not a directory") from None
    try:
        with open(fd, "rb", buffering=0) as file:
            data = file.read(_LIMIT + 1) or b""
    except OSError as error:  # which knows the descriptor, and not the path
        raise OSError(error.errno, error.strerror, path) from None
    if len(data) > _LIMIT:
        raise ConfigError(f"{path}: larger than 16 MiB")
    return data


def saved(store: Store, file: str = layout.CONFIG) -> Config:
    """The configuration that a container was made from, as it lies in its state directory. Raises `UnreadableError`."""
    try:
        config = parse(store.read(file))
    except FileNotFoundError:
        raise UnreadableError(store, file, "no such file or directory") from None
    except ConfigError as error:
        raise UnreadableError(store, file, error.message) from None
    for name, value in (("process", config.get("process", {})), ("linux", config.get("linux", {}))):
        if not isinstance(value, dict):
            raise UnreadableError(store, file, f"{name} is not an object")
    return config


def parse(text: bytes, renamed: list[tuple[str, str]] | None = None) -> Config:
    """config.json's object, in the form that the specification describes (`schema.verdict.normal`).

    ``renamed`` gets what that says. Raises `ConfigError` with line and column for broken JSON.
    """
    try:
        config = jsonio.loads(text)
    except jsonio.JSONError as error:
        refusal = ConfigError(f"invalid config.json: {error}")
        refusal.problems = [{"line": error.line, "column": error.column, "message": error.message}]
        raise refusal from error
    if b"null" in text:  # null stands for an absent member, as in the runtimes written in Go
        config = jsonio.without_nulls(config)
    if not isinstance(config, dict):
        raise ConfigError("invalid config.json: not a JSON object")
    found = verdict.normal(config)
    if renamed is not None:
        renamed += found
    return config  # type: ignore[return-value]  # for the validator to say
