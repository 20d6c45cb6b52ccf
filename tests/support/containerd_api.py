"""containerd's messages, transcribed a second time from its .proto files: to check our tables, and for clients.

A line is a message: its name, then for each field number, name and type; ``+`` is repeated, ``{}`` a map of strings.
"""

from __future__ import annotations

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

TEXT = """
google.protobuf.Any: 1 type_url string, 2 value bytes
google.protobuf.Timestamp: 1 seconds int64, 2 nanos int32
google.protobuf.Empty:
google.rpc.Status: 1 code int32, 2 message string, 3 details google.protobuf.Any+

ttrpc.KeyValue: 1 key string, 2 value string
ttrpc.Request: 1 service string, 2 method string, 3 payload bytes, 4 timeout_nano int64, 5 metadata ttrpc.KeyValue+
ttrpc.Response: 1 status google.rpc.Status, 2 payload bytes

containerd.types.Mount: 1 type string, 2 source string, 3 target string, 4 options string+
containerd.types.Envelope: 1 timestamp google.protobuf.Timestamp, 2 namespace string, 3 topic string, \
  4 event google.protobuf.Any
containerd.types.RuntimeVersion: 1 version string, 2 revision string
containerd.types.RuntimeInfo: 1 name string, 2 version containerd.types.RuntimeVersion, 3 options google.protobuf.Any, \
  4 features google.protobuf.Any, 5 annotations {}
containerd.v1.types.ProcessInfo: 1 pid uint32, 2 info google.protobuf.Any
containerd.services.events.ttrpc.v1.ForwardRequest: 1 envelope containerd.types.Envelope

containerd.task.v2.StateRequest: 1 id string, 2 exec_id string
containerd.task.v2.StateResponse: 1 id string, 2 bundle string, 3 pid uint32, 4 status int32, 5 stdin string, \
  6 stdout string, 7 stderr string, 8 terminal bool, 9 exit_status uint32, 10 exited_at google.protobuf.Timestamp, \
  11 exec_id string
containerd.task.v2.CreateTaskRequest: 1 id string, 2 bundle string, 3 rootfs containerd.types.Mount+, 4 terminal bool, \
  5 stdin string, 6 stdout string, 7 stderr string, 8 checkpoint string, 9 parent_checkpoint string, \
  10 options google.protobuf.Any
containerd.task.v2.CreateTaskResponse: 1 pid uint32
containerd.task.v2.StartRequest: 1 id string, 2 exec_id string
containerd.task.v2.StartResponse: 1 pid uint32
containerd.task.v2.DeleteRequest: 1 id string, 2 exec_id string
containerd.task.v2.DeleteResponse: 1 pid uint32, 2 exit_status uint32, 3 exited_at google.protobuf.Timestamp
containerd.task.v2.PidsRequest: 1 id string
containerd.task.v2.PidsResponse: 1 processes containerd.v1.types.ProcessInfo+
containerd.task.v2.PauseRequest: 1 id string
containerd.task.v2.ResumeRequest: 1 id string
containerd.task.v2.CheckpointTaskRequest: 1 id string, 2 path string, 3 options google.protobuf.Any
containerd.task.v2.KillRequest: 1 id string, 2 exec_id string, 3 signal uint32, 4 all bool
containerd.task.v2.ExecProcessRequest: 1 id string, 2 exec_id string, 3 terminal bool, 4 stdin string, \
  5 stdout string, 6 stderr string, 7 spec google.protobuf.Any
containerd.task.v2.ResizePtyRequest: 1 id string, 2 exec_id string, 3 width uint32, 4 height uint32
containerd.task.v2.CloseIORequest: 1 id string, 2 exec_id string, 3 stdin bool
containerd.task.v2.UpdateTaskRequest: 1 id string, 2 resources google.protobuf.Any, 3 annotations {}
containerd.task.v2.WaitRequest: 1 id string, 2 exec_id string
containerd.task.v2.WaitResponse: 1 exit_status uint32, 2 exited_at google.protobuf.Timestamp
containerd.task.v2.StatsRequest: 1 id string
containerd.task.v2.StatsResponse: 1 stats google.protobuf.Any
containerd.task.v2.ConnectRequest: 1 id string
containerd.task.v2.ConnectResponse: 1 shim_pid uint32, 2 task_pid uint32, 3 version string
containerd.task.v2.ShutdownRequest: 1 id string, 2 now bool

containerd.events.TaskIO: 1 stdin string, 2 stdout string, 3 stderr string, 4 terminal bool
containerd.events.TaskCreate: 1 container_id string, 2 bundle string, 3 rootfs containerd.types.Mount+, \
  4 io containerd.events.TaskIO, 5 checkpoint string, 6 pid uint32
containerd.events.TaskStart: 1 container_id string, 2 pid uint32
containerd.events.TaskDelete: 1 container_id string, 2 pid uint32, 3 exit_status uint32, \
  4 exited_at google.protobuf.Timestamp, 5 id string
containerd.events.TaskExit: 1 container_id string, 2 id string, 3 pid uint32, 4 exit_status uint32, \
  5 exited_at google.protobuf.Timestamp
containerd.events.TaskOOM: 1 container_id string
containerd.events.TaskExecAdded: 1 container_id string, 2 exec_id string
containerd.events.TaskExecStarted: 1 container_id string, 2 exec_id string, 3 pid uint32
containerd.events.TaskPaused: 1 container_id string
containerd.events.TaskResumed: 1 container_id string
containerd.events.TaskCheckpointed: 1 container_id string, 2 checkpoint string

containerd.runc.v1.Options: 1 no_pivot_root bool, 2 no_new_keyring bool, 3 shim_cgroup string, 4 io_uid uint32, \
  5 io_gid uint32, 6 binary_name string, 7 root string, 8 criu_path string, 9 systemd_cgroup bool, \
  10 criu_image_path string, 11 criu_work_path string, 12 task_api_address string, 13 task_api_version uint32
containerd.runc.v1.CheckpointOptions: 1 exit bool, 2 open_tcp bool, 3 external_unix_sockets bool, 4 terminal bool, \
  5 file_locks bool, 6 empty_namespaces string+, 7 cgroups_mode string, 8 image_path string, 9 work_path string
containerd.runc.v1.ProcessDetails: 1 exec_id string
runtimeoptions.v1.Options: 1 type_url string, 2 config_path string, 3 config_body bytes

containerd.runtime.bootstrap.v1.Extension: 1 value google.protobuf.Any
containerd.runtime.bootstrap.v1.BootstrapParams: 1 instance_id string, 2 namespace string, 3 log_level int32, \
  4 containerd_version string, 5 containerd_ttrpc_address string, 6 containerd_grpc_address string, \
  7 containerd_binary string, 8 extensions containerd.runtime.bootstrap.v1.Extension+, 9 socket_dir string
containerd.runtime.bootstrap.v1.BootstrapResult: 1 version int32, 2 address string, 3 protocol string, \
  4 capabilities int32+, 5 metadata {}
""".replace("\\\n", "")

#: Method of the task service -> its request and its response, without the service's name.
METHODS = {
    **{
        name: (f"{name}Request", f"{name}Response")
        for name in ("State", "Start", "Delete", "Pids", "Wait", "Stats", "Connect")
    },
    **{name: (f"{name}Request", "") for name in ("Pause", "Resume", "Kill", "ResizePty", "CloseIO", "Shutdown")},
    "Create": ("CreateTaskRequest", "CreateTaskResponse"),
    "Checkpoint": ("CheckpointTaskRequest", ""),
    "Exec": ("ExecProcessRequest", ""),
    "Update": ("UpdateTaskRequest", ""),
}

Field = descriptor_pb2.FieldDescriptorProto


def _pool() -> descriptor_pool.DescriptorPool:
    packages: dict[str, descriptor_pb2.FileDescriptorProto] = {}
    uses: dict[str, set[str]] = {}
    for line in filter(None, TEXT.splitlines()):
        full, _, fields = line.partition(":")
        package, _, name = full.rpartition(".")
        file = packages.setdefault(
            package, descriptor_pb2.FileDescriptorProto(name=package, package=package, syntax="proto3")
        )
        message = file.message_type.add(name=name)
        for text in filter(None, map(str.strip, fields.split(","))):
            number, field, kind = text.split()
            _add(message, full, int(number), field, kind)
            if "." in kind:
                uses.setdefault(package, set()).add(kind.rstrip("+").rpartition(".")[0])
    pool = descriptor_pool.DescriptorPool()
    for package, file in packages.items():
        file.dependency.extend(sorted(uses.get(package, set()) - {package}))
        pool.Add(file)
    return pool


def _add(message: descriptor_pb2.DescriptorProto, owner: str, number: int, name: str, kind: str) -> None:
    repeated = kind.endswith("+") or kind == "{}"
    field = message.field.add(name=name, number=number)
    field.label = Field.LABEL_REPEATED if repeated else Field.LABEL_OPTIONAL
    if kind == "{}":
        entry = message.nested_type.add(name=f"{name.title().replace('_', '')}Entry")
        entry.options.map_entry = True
        _add(entry, owner, 1, "key", "string")
        _add(entry, owner, 2, "value", "string")
        kind = f"{owner}.{entry.name}"
    kind = kind.rstrip("+")
    if "." in kind:
        field.type, field.type_name = Field.TYPE_MESSAGE, f".{kind}"
    else:
        field.type = Field.Type.Value(f"TYPE_{kind.upper()}")


_POOL = _pool()


def message_class(name: str) -> type[Message]:
    """The library's class for a message by its full name."""
    found: type[Message] = message_factory.GetMessageClass(_POOL.FindMessageTypeByName(name))
    return found
