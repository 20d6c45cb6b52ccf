"""Which devices a container asks for. Pure: names only, each checked against the grammar, no path among them."""

from __future__ import annotations

from gosudacon.api import ConfigError, Error, Spec
from gosudacon.plugins.cdi import names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.plugins.cdi.settings import Settings

_PREFIX = "cdi.k8s.io/"
#: What variables say where they ask for no device, as NVIDIA's images use them.
_NOTHING = ("", "void", "none")


def asked(spec: Spec, settings: Settings) -> list[str]:
    """The full names of the devices, each once: of the option, then of annotations, then of variables.

    The configuration need not be valid. Raises `ConfigError` with the place, `Error` for the option.
    """
    found = [*_of_option(spec), *_of_annotations(spec, settings), *_of_variables(spec, settings)]
    return [*dict.fromkeys(found)]


def _of_option(spec: Spec) -> list[str]:
    for name in spec.options.device:
        try:
            names.check(name)
        except ValueError as error:
            raise Error(f"--device: {error}") from None
    return [*spec.options.device]


def _of_annotations(spec: Spec, settings: Settings) -> list[str]:
    annotations: object = spec.config.get("annotations")
    found = []
    for key, value in annotations.items() if isinstance(annotations, dict) else ():
        if not key.startswith(_PREFIX) or not isinstance(value, str):
            continue
        where = f"annotations.{key}"
        for name in value.split(","):
            kind = _checked(name, where)
            if not settings.allows(kind):
                raise ConfigError(
                    f"annotations may not ask for {kind}",
                    where=where,
                    hint="annotations in [plugin.cdi] of the administrator's configuration lists the kinds that may",
                )
            found.append(name)
    return found


def _of_variables(spec: Spec, settings: Settings) -> list[str]:
    """Of each variable that the administrator has named, the last value counts, as in the container."""
    process: object = spec.config.get("process")
    lines: object = process.get("env") if settings.environment and isinstance(process, dict) else None
    values: dict[str, tuple[int, str]] = {}
    for index, line in enumerate(lines) if isinstance(lines, list) else ():
        if isinstance(line, str):
            name, _, value = line.partition("=")
            values[name] = index, value
    found = []
    for variable, kind in settings.environment.items():
        index, value = values.get(variable, (0, ""))
        where = f"process.env[{index}]"
        for name in value.split(","):
            if name.strip() in _NOTHING:
                continue
            full = name.strip() if "=" in name else f"{kind}={name.strip()}"
            if _checked(full, where) != kind:
                raise ConfigError(f"{variable} may ask for devices of the kind {kind} only, not {full}", where=where)
            found.append(full)
    return found


def _checked(name: str, where: str) -> str:
    try:
        return names.check(name)
    except ValueError as error:
        raise ConfigError(str(error), where=where) from None
