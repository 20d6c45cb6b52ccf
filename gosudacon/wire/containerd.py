"""The messages between containerd and a shim: the task service, events, options, what `start` and `-info` read and say.

Names and numbers are those of containerd's api directory (versions 1.6 to 2.3); the task service is the same in its
versions 2 and 3. Statistics are in `gosudacon.wire.metrics`.
"""

from __future__ import annotations

from gosudacon.wire import protobuf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from gosudacon.wire.protobuf import Kind, Message, Schema

ANY: Schema = {"type_url": (1, "string"), "value": (2, "bytes")}
TIMESTAMP: Schema = {"seconds": (1, "int64"), "nanos": (2, "int32")}
EMPTY: Schema = {}
MOUNT: Schema = {"type": (1, "string"), "source": (2, "string"), "target": (3, "string"), "options": (4, ["string"])}

#: The services that are the task service, one for each of its versions.
TASK_SERVICES = ("containerd.task.v2.Task", "containerd.task.v3.Task")
#: Status of a process.
CREATED, RUNNING, STOPPED, PAUSED, PAUSING = range(1, 6)

_ONE: Schema = {"id": (1, "string")}
_PROCESS: Schema = {"id": (1, "string"), "exec_id": (2, "string")}
_EXIT: Schema = {"pid": (1, "uint32"), "exit_status": (2, "uint32"), "exited_at": (3, TIMESTAMP)}
_PID: Schema = {"pid": (1, "uint32")}
PROCESS_INFO: Schema = {"pid": (1, "uint32"), "info": (2, ANY)}
#: Method of the task service -> its request and its response.
TASK: Mapping[str, tuple[Schema, Schema]] = {
    "State": (
        _PROCESS,
        {
            "id": (1, "string"),
            "bundle": (2, "string"),
            "pid": (3, "uint32"),
            "status": (4, "int32"),
            "stdin": (5, "string"),
            "stdout": (6, "string"),
            "stderr": (7, "string"),
            "terminal": (8, "bool"),
            "exit_status": (9, "uint32"),
            "exited_at": (10, TIMESTAMP),
            "exec_id": (11, "string"),
        },
    ),
    "Create": (
        {
            "id": (1, "string"),
            "bundle": (2, "string"),
            "rootfs": (3, [MOUNT]),
            "terminal": (4, "bool"),
            "stdin": (5, "string"),
            "stdout": (6, "string"),
            "stderr": (7, "string"),
            "checkpoint": (8, "string"),
            "parent_checkpoint": (9, "string"),
            "options": (10, ANY),
        },
        _PID,
    ),
    "Start": (_PROCESS, _PID),
    "Delete": (_PROCESS, _EXIT),
    "Pids": (_ONE, {"processes": (1, [PROCESS_INFO])}),
    "Pause": (_ONE, EMPTY),
    "Resume": (_ONE, EMPTY),
    "Checkpoint": ({"id": (1, "string"), "path": (2, "string"), "options": (3, ANY)}, EMPTY),
    "Kill": ({**_PROCESS, "signal": (3, "uint32"), "all": (4, "bool")}, EMPTY),
    "Exec": (
        {
            "id": (1, "string"),
            "exec_id": (2, "string"),
            "terminal": (3, "bool"),
            "stdin": (4, "string"),
            "stdout": (5, "string"),
            "stderr": (6, "string"),
            "spec": (7, ANY),
        },
        EMPTY,
    ),
    "ResizePty": ({**_PROCESS, "width": (3, "uint32"), "height": (4, "uint32")}, EMPTY),
    "CloseIO": ({**_PROCESS, "stdin": (3, "bool")}, EMPTY),
    "Update": ({"id": (1, "string"), "resources": (2, ANY), "annotations": (3, ("string", "string"))}, EMPTY),
    "Wait": (_PROCESS, {"exit_status": (1, "uint32"), "exited_at": (2, TIMESTAMP)}),
    "Stats": (_ONE, {"stats": (1, ANY)}),
    "Connect": (_ONE, {"shim_pid": (1, "uint32"), "task_pid": (2, "uint32"), "version": (3, "string")}),
    "Shutdown": ({"id": (1, "string"), "now": (2, "bool")}, EMPTY),
}
#: What the command `delete` prints.
DELETE_RESPONSE = _EXIT

_CONTAINER: Mapping[str, tuple[int, Kind]] = {"container_id": (1, "string")}
_STREAMS: Schema = {"stdin": (1, "string"), "stdout": (2, "string"), "stderr": (3, "string"), "terminal": (4, "bool")}
#: Event -> its topic and its message.
EVENTS: Mapping[str, tuple[str, Schema]] = {
    "TaskCreate": (
        "/tasks/create",
        {
            **_CONTAINER,
            "bundle": (2, "string"),
            "rootfs": (3, [MOUNT]),
            "io": (4, _STREAMS),
            "checkpoint": (5, "string"),
            "pid": (6, "uint32"),
        },
    ),
    "TaskStart": ("/tasks/start", {**_CONTAINER, "pid": (2, "uint32")}),
    "TaskExit": (
        "/tasks/exit",
        {
            **_CONTAINER,
            "id": (2, "string"),
            "pid": (3, "uint32"),
            "exit_status": (4, "uint32"),
            "exited_at": (5, TIMESTAMP),
        },
    ),
    "TaskDelete": (
        "/tasks/delete",
        {
            **_CONTAINER,
            "pid": (2, "uint32"),
            "exit_status": (3, "uint32"),
            "exited_at": (4, TIMESTAMP),
            "id": (5, "string"),
        },
    ),
    "TaskOOM": ("/tasks/oom", _CONTAINER),
    "TaskExecAdded": ("/tasks/exec-added", {**_CONTAINER, "exec_id": (2, "string")}),
    "TaskExecStarted": ("/tasks/exec-started", {**_CONTAINER, "exec_id": (2, "string"), "pid": (3, "uint32")}),
    "TaskPaused": ("/tasks/paused", _CONTAINER),
    "TaskResumed": ("/tasks/resumed", _CONTAINER),
    "TaskCheckpointed": ("/tasks/checkpointed", {**_CONTAINER, "checkpoint": (2, "string")}),
}
EVENTS_SERVICE = "containerd.services.events.ttrpc.v1.Events"
_ENVELOPE: Schema = {
    "timestamp": (1, TIMESTAMP),
    "namespace": (2, "string"),
    "topic": (3, "string"),
    "event": (4, ANY),
}
FORWARD_REQUEST: Schema = {"envelope": (1, _ENVELOPE)}

RUNC_OPTIONS: Schema = {
    "no_pivot_root": (1, "bool"),
    "no_new_keyring": (2, "bool"),
    "shim_cgroup": (3, "string"),
    "io_uid": (4, "uint32"),
    "io_gid": (5, "uint32"),
    "binary_name": (6, "string"),
    "root": (7, "string"),
    "criu_path": (8, "string"),  # until 1.7
    "systemd_cgroup": (9, "bool"),
    "criu_image_path": (10, "string"),
    "criu_work_path": (11, "string"),
    "task_api_address": (12, "string"),
    "task_api_version": (13, "uint32"),
}
CHECKPOINT_OPTIONS: Schema = {
    "exit": (1, "bool"),
    "open_tcp": (2, "bool"),
    "external_unix_sockets": (3, "bool"),
    "terminal": (4, "bool"),
    "file_locks": (5, "bool"),
    "empty_namespaces": (6, ["string"]),
    "cgroups_mode": (7, "string"),
    "image_path": (8, "string"),
    "work_path": (9, "string"),
}
PROCESS_DETAILS: Schema = {"exec_id": (1, "string")}
#: What the options table of a runtime becomes that is not runc's.
RUNTIME_OPTIONS: Schema = {"type_url": (1, "string"), "config_path": (2, "string"), "config_body": (3, "bytes")}
#: Name -> message, of those that travel in `ANY`. JSON does so, too: its types end with `Spec`, `Process`, ….
IN_ANY: Mapping[str, Schema] = {
    "containerd.runc.v1.Options": RUNC_OPTIONS,
    "containerd.runc.v1.CheckpointOptions": CHECKPOINT_OPTIONS,
    "containerd.runc.v1.ProcessDetails": PROCESS_DETAILS,
    "runtimeoptions.v1.Options": RUNTIME_OPTIONS,
    **{f"containerd.events.{name}": schema for name, (_, schema) in EVENTS.items()},
}
_OCI = "types.containerd.io/opencontainers/runtime-spec/1"
FEATURES_TYPE = f"{_OCI}/features/Features"  # of the JSON in `RUNTIME_INFO`

BOOTSTRAP_PARAMS: Schema = {
    "instance_id": (1, "string"),
    "namespace": (2, "string"),
    "log_level": (3, "int32"),  # 0 is info, less is more
    "containerd_version": (4, "string"),
    "containerd_ttrpc_address": (5, "string"),
    "containerd_grpc_address": (6, "string"),
    "containerd_binary": (7, "string"),
    "extensions": (8, [{"value": (1, ANY)}]),
    "socket_dir": (9, "string"),
}
BOOTSTRAP_RESULT: Schema = {
    "version": (1, "int32"),
    "address": (2, "string"),
    "protocol": (3, "string"),
    "capabilities": (4, ["int32"]),
    "metadata": (5, ("string", "string")),
}
_VERSION: Schema = {"version": (1, "string"), "revision": (2, "string")}
#: What the command `-info` prints.
RUNTIME_INFO: Schema = {
    "name": (1, "string"),
    "version": (2, _VERSION),
    "options": (3, ANY),
    "features": (4, ANY),
    "annotations": (5, ("string", "string")),
}


def pack(name: str, message: Mapping[str, object]) -> Message:
    """A message of `IN_ANY` as the fields of `ANY`."""
    return {"type_url": name, "value": protobuf.encode(IN_ANY[name], message)}


def unpack(packed: Message | None, name: str) -> Message | None:
    """The message of `IN_ANY` that is packed, if it is this one. Raises `protobuf.ProtobufError`."""
    if packed is None or type_name(packed) != name:
        return None
    return protobuf.decode(IN_ANY[name], packed["value"])


def type_name(packed: Message) -> str:
    """What is packed in it: ``containerd.runc.v1.Options``, or ``Process`` for JSON."""
    name: str = packed["type_url"]
    return name.rpartition("/")[2]


def timestamp(nanoseconds: int) -> Message:
    """A moment since 1970 as the fields of a Timestamp."""
    seconds, nanos = divmod(nanoseconds, 1_000_000_000)
    return {"seconds": seconds, "nanos": nanos}


def forward_request(namespace: str, name: str, message: Mapping[str, object], moment: int) -> bytes:
    """The request of method ``Forward`` of `EVENTS_SERVICE` for an event of `EVENTS`; ``moment`` is in nanoseconds."""
    envelope = {
        "timestamp": timestamp(moment),
        "namespace": namespace,
        "topic": EVENTS[name][0],
        "event": pack(f"containerd.events.{name}", message),
    }
    return protobuf.encode(FORWARD_REQUEST, {"envelope": envelope})


def read_bootstrap(data: bytes, instance_id: str) -> Message:
    """What `start` reads, as the fields of `BOOTSTRAP_PARAMS`; ``instance_id`` is what its arguments say.

    Before version 2.3 containerd sends nothing, or packed options: then all is empty but the extensions, which
    hold the options. Both begin with two strings, so the first one decides. Raises `protobuf.ProtobufError`.
    """
    try:
        message = protobuf.decode(BOOTSTRAP_PARAMS, data)
    except protobuf.ProtobufError:
        message = {}
    if message and message["instance_id"] == instance_id:
        return message
    options = protobuf.decode(ANY, data)
    found = protobuf.decode(BOOTSTRAP_PARAMS, b"")
    if options["type_url"]:
        found["extensions"] = [{"value": options}]
    return found
