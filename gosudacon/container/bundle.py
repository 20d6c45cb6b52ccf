"""The bundle: reading and parsing config.json."""

from __future__ import annotations

from gosudacon.base import jsonio, layout, posix
from gosudacon.base.errors import ConfigError, Error
from gosudacon.container.state import UnreadableError
from gosudacon.pipeline.spec import Spec
from gosudacon.schema import verdict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.container.state import Store
    from gosudacon.pipeline.spec import Options
    from gosudacon.schema.types import Config


def load(id: str, bundle: str, options: Options | None = None) -> Spec:
    """The spec of the directory ``bundle``, an absolute path; the option ``config`` is another file than config.json.

    Raises `Error` if it is missing, `ConfigError` if it is not a JSON object.
    """
    text = read(bundle, options.config if options is not None else "")
    renamed: list[tuple[str, str]] = []
    return Spec(parse(text, renamed), id, bundle, options, text, renamed=renamed)


def lacks_mappings(spec: Spec) -> bool:
    """Whether the container is to have a user namespace of its own, and not both mappings of ids; valid or not."""
    linux: object = spec.config.get("linux")
    spaces = linux.get("namespaces") if isinstance(linux, dict) else None
    if not isinstance(linux, dict) or not isinstance(spaces, list):
        return False
    for entry in spaces:
        if isinstance(entry, dict) and entry.get("type") == "user" and not entry.get("path"):
            return not (linux.get("uidMappings") and linux.get("gidMappings"))
    return False


def read(bundle: str, name: str = "") -> bytes:
    """The bytes of the bundle's config.json, or of another file, whose path may be relative to the bundle."""
    path = name if name.startswith("/") else f"{bundle}/{name or layout.CONFIG}"
    try:
        data = posix.read_file(path, jsonio.SIZE_LIMIT + 1)
    except FileNotFoundError:
        if not posix.path.isdir(bundle):
            raise Error(f"chdir {bundle}: no such file or directory") from None
        name = name or layout.CONFIG
        raise Error(f"JSON specification file {name} not found", hint=f"no {name} in {bundle}") from None
    except NotADirectoryError:
        raise Error(f"chdir {bundle}: not a directory") from None
    if len(data) > jsonio.SIZE_LIMIT:
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
    if b"null" in text:  # null means an absent member, as in the runtimes written in Go
        config = jsonio.without_nulls(config)
    if not isinstance(config, dict):
        raise ConfigError("invalid config.json: not a JSON object")
    found = verdict.normal(config)
    if renamed is not None:
        renamed += found
    return config  # type: ignore[return-value]  # for the validator to say
