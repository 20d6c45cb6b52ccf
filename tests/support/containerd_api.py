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

io.containerd.cgroups.v1.HugetlbStat: 1 usage uint64, 2 max uint64, 3 failcnt uint64, 4 pagesize string
io.containerd.cgroups.v1.PidsStat: 1 current uint64, 2 limit uint64
io.containerd.cgroups.v1.CPUUsage: 1 total uint64, 2 kernel uint64, 3 user uint64, 4 per_cpu uint64+
io.containerd.cgroups.v1.Throttle: 1 periods uint64, 2 throttled_periods uint64, 3 throttled_time uint64
io.containerd.cgroups.v1.CPUStat: 1 usage io.containerd.cgroups.v1.CPUUsage, \
  2 throttling io.containerd.cgroups.v1.Throttle
io.containerd.cgroups.v1.MemoryEntry: 1 limit uint64, 2 usage uint64, 3 max uint64, 4 failcnt uint64
io.containerd.cgroups.v1.MemoryStat: 1 cache uint64, 2 rss uint64, 3 rss_huge uint64, 4 mapped_file uint64, \
  5 dirty uint64, 6 writeback uint64, 7 pg_pg_in uint64, 8 pg_pg_out uint64, 9 pg_fault uint64, \
  10 pg_maj_fault uint64, 11 inactive_anon uint64, 12 active_anon uint64, 13 inactive_file uint64, \
  14 active_file uint64, 15 unevictable uint64, 16 hierarchical_memory_limit uint64, \
  17 hierarchical_swap_limit uint64, 18 total_cache uint64, 19 total_rss uint64, 20 total_rss_huge uint64, \
  21 total_mapped_file uint64, 22 total_dirty uint64, 23 total_writeback uint64, 24 total_pg_pg_in uint64, \
  25 total_pg_pg_out uint64, 26 total_pg_fault uint64, 27 total_pg_maj_fault uint64, 28 total_inactive_anon uint64, \
  29 total_active_anon uint64, 30 total_inactive_file uint64, 31 total_active_file uint64, \
  32 total_unevictable uint64, 33 usage io.containerd.cgroups.v1.MemoryEntry, \
  34 swap io.containerd.cgroups.v1.MemoryEntry, 35 kernel io.containerd.cgroups.v1.MemoryEntry, \
  36 kernel_tcp io.containerd.cgroups.v1.MemoryEntry
io.containerd.cgroups.v1.BlkIOEntry: 1 op string, 2 device string, 3 major uint64, 4 minor uint64, 5 value uint64
io.containerd.cgroups.v1.BlkIOStat: 1 io_service_bytes_recursive io.containerd.cgroups.v1.BlkIOEntry+, \
  2 io_serviced_recursive io.containerd.cgroups.v1.BlkIOEntry+, \
  3 io_queued_recursive io.containerd.cgroups.v1.BlkIOEntry+, \
  4 io_service_time_recursive io.containerd.cgroups.v1.BlkIOEntry+, \
  5 io_wait_time_recursive io.containerd.cgroups.v1.BlkIOEntry+, \
  6 io_merged_recursive io.containerd.cgroups.v1.BlkIOEntry+, \
  7 io_time_recursive io.containerd.cgroups.v1.BlkIOEntry+, \
  8 sectors_recursive io.containerd.cgroups.v1.BlkIOEntry+
io.containerd.cgroups.v1.RdmaEntry: 1 device string, 2 hca_handles uint32, 3 hca_objects uint32
io.containerd.cgroups.v1.RdmaStat: 1 current io.containerd.cgroups.v1.RdmaEntry+, \
  2 limit io.containerd.cgroups.v1.RdmaEntry+
io.containerd.cgroups.v1.MemoryOomControl: 1 oom_kill_disable uint64, 2 under_oom uint64, 3 oom_kill uint64
io.containerd.cgroups.v1.Metrics: 1 hugetlb io.containerd.cgroups.v1.HugetlbStat+, \
  2 pids io.containerd.cgroups.v1.PidsStat, 3 cpu io.containerd.cgroups.v1.CPUStat, \
  4 memory io.containerd.cgroups.v1.MemoryStat, 5 blkio io.containerd.cgroups.v1.BlkIOStat, \
  6 rdma io.containerd.cgroups.v1.RdmaStat, 9 memory_oom_control io.containerd.cgroups.v1.MemoryOomControl

io.containerd.cgroups.v2.PidsStat: 1 current uint64, 2 limit uint64
io.containerd.cgroups.v2.PSIData: 1 avg10 double, 2 avg60 double, 3 avg300 double, 4 total uint64
io.containerd.cgroups.v2.PSIStats: 1 some io.containerd.cgroups.v2.PSIData, 2 full io.containerd.cgroups.v2.PSIData
io.containerd.cgroups.v2.CPUStat: 1 usage_usec uint64, 2 user_usec uint64, 3 system_usec uint64, \
  4 nr_periods uint64, 5 nr_throttled uint64, 6 throttled_usec uint64, 7 psi io.containerd.cgroups.v2.PSIStats, \
  8 nr_bursts uint64, 9 burst_usec uint64
io.containerd.cgroups.v2.MemoryStat: 1 anon uint64, 2 file uint64, 3 kernel_stack uint64, 4 slab uint64, \
  5 sock uint64, 6 shmem uint64, 7 file_mapped uint64, 8 file_dirty uint64, 9 file_writeback uint64, \
  10 anon_thp uint64, 11 inactive_anon uint64, 12 active_anon uint64, 13 inactive_file uint64, \
  14 active_file uint64, 15 unevictable uint64, 16 slab_reclaimable uint64, 17 slab_unreclaimable uint64, \
  18 pgfault uint64, 19 pgmajfault uint64, 20 workingset_refault uint64, 21 workingset_activate uint64, \
  22 workingset_nodereclaim uint64, 23 pgrefill uint64, 24 pgscan uint64, 25 pgsteal uint64, 26 pgactivate uint64, \
  27 pgdeactivate uint64, 28 pglazyfree uint64, 29 pglazyfreed uint64, 30 thp_fault_alloc uint64, \
  31 thp_collapse_alloc uint64, 32 usage uint64, 33 usage_limit uint64, 34 swap_usage uint64, 35 swap_limit uint64, \
  36 max_usage uint64, 37 swap_max_usage uint64, 38 psi io.containerd.cgroups.v2.PSIStats
io.containerd.cgroups.v2.MemoryEvents: 1 low uint64, 2 high uint64, 3 max uint64, 4 oom uint64, 5 oom_kill uint64, \
  6 oom_group_kill uint64
io.containerd.cgroups.v2.RdmaEntry: 1 device string, 2 hca_handles uint32, 3 hca_objects uint32
io.containerd.cgroups.v2.RdmaStat: 1 current io.containerd.cgroups.v2.RdmaEntry+, \
  2 limit io.containerd.cgroups.v2.RdmaEntry+
io.containerd.cgroups.v2.IOEntry: 1 major uint64, 2 minor uint64, 3 rbytes uint64, 4 wbytes uint64, 5 rios uint64, \
  6 wios uint64
io.containerd.cgroups.v2.IOStat: 1 usage io.containerd.cgroups.v2.IOEntry+, 2 psi io.containerd.cgroups.v2.PSIStats
io.containerd.cgroups.v2.HugeTlbStat: 1 current uint64, 2 max uint64, 3 pagesize string, 4 failcnt uint64
io.containerd.cgroups.v2.Metrics: 1 pids io.containerd.cgroups.v2.PidsStat, 2 cpu io.containerd.cgroups.v2.CPUStat, \
  4 memory io.containerd.cgroups.v2.MemoryStat, 5 rdma io.containerd.cgroups.v2.RdmaStat, \
  6 io io.containerd.cgroups.v2.IOStat, 7 hugetlb io.containerd.cgroups.v2.HugeTlbStat+, \
  8 memory_events io.containerd.cgroups.v2.MemoryEvents
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
