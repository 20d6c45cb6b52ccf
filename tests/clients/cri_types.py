"""Messages of Kubernetes' Container Runtime Interface, version ``runtime.v1``, as far as the tests use them.

A kind is ``string``, ``bytes``, ``int``, ``bool``, ``map`` (of strings to strings) or the name of another type;
``[KIND]`` is repeated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gosudacon.wire.protobuf import Kind, Schema

POD, CONTAINER, NODE, TARGET = range(4)
"""NamespaceMode: whose namespace a container is in."""
RUNTIME_DEFAULT, UNCONFINED, LOCALHOST = range(3)
"""ProfileType of SecurityProfile."""
CREATED, RUNNING, EXITED, UNKNOWN = range(4)
"""ContainerState."""
PRIVATE, FROM_THE_HOST, BOTH_WAYS = range(3)
"""MountPropagation."""
READY, NOT_READY = range(2)
"""PodSandboxState."""

TYPES: dict[str, dict[str, tuple[int, str]]] = {
    # Pods.
    "PodSandboxMetadata": {
        "name": (1, "string"),
        "uid": (2, "string"),
        "namespace": (3, "string"),
        "attempt": (4, "int"),
    },
    "DNSConfig": {"servers": (1, "[string]"), "searches": (2, "[string]"), "options": (3, "[string]")},
    "IDMapping": {"host_id": (1, "int"), "container_id": (2, "int"), "length": (3, "int")},
    "UserNamespace": {"mode": (1, "int"), "uids": (2, "[IDMapping]"), "gids": (3, "[IDMapping]")},
    "NamespaceOption": {
        "network": (1, "int"),
        "pid": (2, "int"),
        "ipc": (3, "int"),
        "target_id": (4, "string"),
        "userns_options": (5, "UserNamespace"),
    },
    "Int64Value": {"value": (1, "int")},
    "SecurityProfile": {"profile_type": (1, "int"), "localhost_ref": (2, "string")},
    "LinuxSandboxSecurityContext": {
        "namespace_options": (1, "NamespaceOption"),
        "run_as_user": (3, "Int64Value"),
        "readonly_rootfs": (4, "bool"),
        "supplemental_groups": (5, "[int]"),
        "privileged": (6, "bool"),
        "run_as_group": (8, "Int64Value"),
        "seccomp": (9, "SecurityProfile"),
    },
    "LinuxPodSandboxConfig": {
        "cgroup_parent": (1, "string"),
        "security_context": (2, "LinuxSandboxSecurityContext"),
        "sysctls": (3, "map"),
    },
    "PodSandboxConfig": {
        "metadata": (1, "PodSandboxMetadata"),
        "hostname": (2, "string"),
        "log_directory": (3, "string"),
        "dns_config": (4, "DNSConfig"),
        "labels": (6, "map"),
        "annotations": (7, "map"),
        "linux": (8, "LinuxPodSandboxConfig"),
    },
    "RunPodSandboxRequest": {"config": (1, "PodSandboxConfig"), "runtime_handler": (2, "string")},
    "RunPodSandboxResponse": {"pod_sandbox_id": (1, "string")},
    "StopPodSandboxRequest": {"pod_sandbox_id": (1, "string")},
    "StopPodSandboxResponse": {},
    "RemovePodSandboxRequest": {"pod_sandbox_id": (1, "string")},
    "RemovePodSandboxResponse": {},
    "PodSandboxNetworkStatus": {"ip": (1, "string")},
    "PodSandboxStatus": {
        "id": (1, "string"),
        "metadata": (2, "PodSandboxMetadata"),
        "state": (3, "int"),
        "network": (5, "PodSandboxNetworkStatus"),
        "runtime_handler": (9, "string"),
    },
    "PodSandboxStatusRequest": {"pod_sandbox_id": (1, "string"), "verbose": (2, "bool")},
    "PodSandboxStatusResponse": {"status": (1, "PodSandboxStatus"), "info": (2, "map")},
    "PodSandbox": {"id": (1, "string"), "metadata": (2, "PodSandboxMetadata"), "state": (3, "int")},
    "ListPodSandboxRequest": {},
    "ListPodSandboxResponse": {"items": (1, "[PodSandbox]")},
    # Containers.
    "ContainerMetadata": {"name": (1, "string"), "attempt": (2, "int")},
    "ImageSpec": {"image": (1, "string")},
    "KeyValue": {"key": (1, "string"), "value": (2, "string")},
    "Mount": {
        "container_path": (1, "string"),
        "host_path": (2, "string"),
        "readonly": (3, "bool"),
        "propagation": (5, "int"),
    },
    "Device": {"container_path": (1, "string"), "host_path": (2, "string"), "permissions": (3, "string")},
    "LinuxContainerResources": {
        "cpu_period": (1, "int"),
        "cpu_quota": (2, "int"),
        "cpu_shares": (3, "int"),
        "memory_limit_in_bytes": (4, "int"),
        "oom_score_adj": (5, "int"),
        "cpuset_cpus": (6, "string"),
        "cpuset_mems": (7, "string"),
        "unified": (9, "map"),
    },
    "Capability": {"add_capabilities": (1, "[string]"), "drop_capabilities": (2, "[string]")},
    "LinuxContainerSecurityContext": {
        "capabilities": (1, "Capability"),
        "privileged": (2, "bool"),
        "namespace_options": (3, "NamespaceOption"),
        "run_as_user": (5, "Int64Value"),
        "run_as_username": (6, "string"),
        "readonly_rootfs": (7, "bool"),
        "supplemental_groups": (8, "[int]"),
        "no_new_privs": (11, "bool"),
        "run_as_group": (12, "Int64Value"),
        "masked_paths": (13, "[string]"),
        "readonly_paths": (14, "[string]"),
        "seccomp": (15, "SecurityProfile"),
    },
    "LinuxContainerConfig": {
        "resources": (1, "LinuxContainerResources"),
        "security_context": (2, "LinuxContainerSecurityContext"),
    },
    "ContainerConfig": {
        "metadata": (1, "ContainerMetadata"),
        "image": (2, "ImageSpec"),
        "command": (3, "[string]"),
        "args": (4, "[string]"),
        "working_dir": (5, "string"),
        "envs": (6, "[KeyValue]"),
        "mounts": (7, "[Mount]"),
        "devices": (8, "[Device]"),
        "labels": (9, "map"),
        "annotations": (10, "map"),
        "log_path": (11, "string"),
        "stdin": (12, "bool"),
        "stdin_once": (13, "bool"),
        "tty": (14, "bool"),
        "linux": (15, "LinuxContainerConfig"),
    },
    "CreateContainerRequest": {
        "pod_sandbox_id": (1, "string"),
        "config": (2, "ContainerConfig"),
        "sandbox_config": (3, "PodSandboxConfig"),
    },
    "CreateContainerResponse": {"container_id": (1, "string")},
    "StartContainerRequest": {"container_id": (1, "string")},
    "StartContainerResponse": {},
    "StopContainerRequest": {"container_id": (1, "string"), "timeout": (2, "int")},
    "StopContainerResponse": {},
    "RemoveContainerRequest": {"container_id": (1, "string")},
    "RemoveContainerResponse": {},
    "ContainerFilter": {"id": (1, "string"), "pod_sandbox_id": (3, "string")},
    "Container": {
        "id": (1, "string"),
        "pod_sandbox_id": (2, "string"),
        "metadata": (3, "ContainerMetadata"),
        "state": (6, "int"),
    },
    "ListContainersRequest": {"filter": (1, "ContainerFilter")},
    "ListContainersResponse": {"containers": (1, "[Container]")},
    "ContainerStatus": {
        "id": (1, "string"),
        "metadata": (2, "ContainerMetadata"),
        "state": (3, "int"),
        "created_at": (4, "int"),
        "started_at": (5, "int"),
        "finished_at": (6, "int"),
        "exit_code": (7, "int"),
        "reason": (10, "string"),
        "message": (11, "string"),
        "log_path": (15, "string"),
    },
    "ContainerStatusRequest": {"container_id": (1, "string"), "verbose": (2, "bool")},
    "ContainerStatusResponse": {"status": (1, "ContainerStatus"), "info": (2, "map")},
    "ExecSyncRequest": {"container_id": (1, "string"), "cmd": (2, "[string]"), "timeout": (3, "int")},
    "ExecSyncResponse": {"stdout": (1, "bytes"), "stderr": (2, "bytes"), "exit_code": (3, "int")},
    "UpdateContainerResourcesRequest": {"container_id": (1, "string"), "linux": (2, "LinuxContainerResources")},
    "UpdateContainerResourcesResponse": {},
    # Statistics, the runtime itself, images.
    "UInt64Value": {"value": (1, "int")},
    "ContainerAttributes": {"id": (1, "string")},
    "CpuUsage": {"timestamp": (1, "int"), "usage_core_nano_seconds": (2, "UInt64Value")},
    "MemoryUsage": {"timestamp": (1, "int"), "working_set_bytes": (2, "UInt64Value")},
    "ContainerStats": {
        "attributes": (1, "ContainerAttributes"),
        "cpu": (2, "CpuUsage"),
        "memory": (3, "MemoryUsage"),
    },
    "ContainerStatsRequest": {"container_id": (1, "string")},
    "ContainerStatsResponse": {"stats": (1, "ContainerStats")},
    "RuntimeCondition": {"type": (1, "string"), "status": (2, "bool"), "message": (4, "string")},
    "RuntimeStatus": {"conditions": (1, "[RuntimeCondition]")},
    "StatusRequest": {"verbose": (1, "bool")},
    "StatusResponse": {"status": (1, "RuntimeStatus"), "info": (2, "map")},
    "VersionRequest": {"version": (1, "string")},
    "VersionResponse": {"runtime_name": (2, "string"), "runtime_version": (3, "string")},
    "Image": {"id": (1, "string"), "repo_tags": (2, "[string]")},
    "ImageStatusRequest": {"image": (1, "ImageSpec")},
    "ImageStatusResponse": {"image": (1, "Image")},
}
"""Message types by name; numbers are those of the interface's definition."""


_SCALARS: dict[str, Kind] = {
    "string": "string",
    "bytes": "bytes",
    "int": "int64",
    "bool": "bool",
    "map": ("string", "string"),
}


def _schemas() -> dict[str, Schema]:
    schemas: dict[str, dict[str, tuple[int, Kind]]] = {name: {} for name in TYPES}
    kinds: dict[str, Kind] = {**schemas, **_SCALARS}
    for type_name, fields in TYPES.items():
        for name, (number, kind) in fields.items():
            inner = kinds[kind.strip("[]")]
            schemas[type_name][name] = (number, [inner] if kind.startswith("[") else inner)
    return {**schemas}


SCHEMAS = _schemas()
"""The same, as `gosudacon.wire.protobuf` reads and writes them."""
