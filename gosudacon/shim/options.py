"""The options of a container, as containerd sends them with its creation."""

from __future__ import annotations

from gosudacon.wire import containerd as wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gosudacon.wire.protobuf import Message

_OF_RUNC = "containerd.runc.v1.Options"
_OF_OTHERS = "runtimeoptions.v1.Options"
_LARGEST = 1 << 20


#: Options of runc's that another part acts on, or no part: `docs/shim.md` says which.
_OF_CONTAINERD = ("binary_name", "criu_image_path", "task_api_address", "task_api_version")


class Options:
    """Those that have a meaning here, by the names that they have for runc.

    ``ignored``: what else was there, in words for the log.
    """

    no_pivot_root: bool = False
    no_new_keyring: bool = False
    systemd_cgroup: bool = False
    shim_cgroup: str = ""
    io_uid: int = 0
    io_gid: int = 0
    root: str = ""
    criu_path: str = ""
    criu_work_path: str = ""
    ignored: Sequence[str] = ()

    def __init__(self, values: Message) -> None:
        vars(self).update((name, value) for name, value in values.items() if hasattr(Options, name))
        if values.get("binary_name"):
            self.ignored = (f"BinaryName {values['binary_name']}: this shim is the runtime itself",)


def decode(packed: Message | None) -> Options:
    """The options as they came: those of runc, or what the table of any other runtime becomes; none of any else.

    The table is TOML, in the message or in a file that it names. Raises `protobuf.ProtobufError` for what is not a
    message, `ValueError` for what is not TOML, OSError.
    """
    of_runc = wire.unpack(packed, _OF_RUNC)
    if of_runc is not None:
        return Options(of_runc)
    of_others = wire.unpack(packed, _OF_OTHERS)
    if of_others is None:
        options = Options({})
        if packed is not None and packed["type_url"]:
            options.ignored = (f"options of the type {packed['type_url']}",)
        return options
    body: bytes = of_others["config_body"]
    if not body and of_others["config_path"]:
        with open(of_others["config_path"], "rb", buffering=0) as file:
            body = file.read(_LARGEST) or b""
    return _of_table(body) if body.strip() else Options({})


def _of_table(body: bytes) -> Options:
    """From TOML, whose keys are those of containerd's configuration for runc: ``SystemdCgroup``."""
    names = {name.replace("_", ""): name for name in wire.RUNC_OPTIONS}
    values: Message = {}
    ignored = []
    for key, value in _read(body.decode()).items():
        name = names.get(key.replace("_", "").lower(), "")
        if name == "binary_name" or (name and type(value) is type(getattr(Options, name, None))):
            values[name] = value
        elif name not in _OF_CONTAINERD:
            ignored.append(f"{key} = {value!r}: " + ("a value of another type is wanted" if name else "no option"))
    options = Options(values)
    options.ignored = (*options.ignored, *ignored)
    return options


def _read(text: str) -> Mapping[str, object]:
    """A table in TOML. Raises `ValueError`.

    The library for that costs each shim some milliseconds and four megabytes. So it is left out for what most tables
    are: lines that set a plain key to a truth value, a number or a simple string.
    """
    table: dict[str, object] = {}
    for line in text.split("\n"):
        if not line:
            continue
        key, _, value = (part.strip(" ") for part in line.partition("="))
        read = _value(value)
        if read is None or key in table or not (key.isascii() and key.isalnum()):
            import tomllib

            return tomllib.loads(text)
        table[key] = read
    return table


def _value(text: str) -> bool | int | str | None:
    """A value in its plainest form; None for any other text."""
    if text in ("true", "false"):
        return text == "true"
    if text.isascii() and text.isdigit() and (text == "0" or text[0] != "0"):
        return int(text)
    inner = text[1:-1]
    is_string = text == f'"{inner}"' and inner.isprintable() and not ('"' in inner or "\\" in inner)
    return inner if is_string else None
