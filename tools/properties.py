"""What becomes of each property of config.json: the steps, a test, and the first kernel that can do it.

Read by tools/pages.py, which writes docs/properties.md. A property that is not listed is as the one that holds it.
The steps are classes below stages/; `-`: none, and why. The kernel is the release of Linux, empty for any that runs us.
"""

from __future__ import annotations

_EXEC, _WHOLE = "kernel/test_exec.py", "kernel/test_whole.py"
_PROCESS = "kernel/test_process_properties.py"
_HOOKS, _MOUNTS = "kernel/test_stage_hooks.py", "kernel/test_stage_rootfs_mounts.py"
_NODES, _HIDE, _PIVOT = (f"kernel/test_stage_rootfs_{name}.py" for name in ("devices", "hide", "pivot"))
_V1, _V2, _PLAN = "kernel/test_stage_cgroups_v1.py", "kernel/test_stage_cgroups_v2.py", "unit/test_plan_cgroups.py"
_FILTER, _NOTIFY = "kernel/test_stage_seccomp.py", "kernel/test_stage_seccomp_notify.py"
_RDT, _NET = "unit/test_intel_rdt.py", "kernel/test_stage_net_devices.py"
_SECCOMP = "unit/test_plan_seccomp.py"

#: Property -> (steps, test, kernel).
PROPERTIES: dict[str, tuple[str, str, str]] = {
    "ociVersion": ("- any is taken", "unit/test_leniency.py::test_warned", ""),
    "root": ("BindRoot BindRootClassic", f"{_PIVOT}::test_in_a_user_namespace", ""),
    "root.readonly": ("RemountRootReadOnly", f"{_PIVOT}::test_root_on_a_shared_mount", ""),
    "process": ("Execve", "kernel/test_lifecycle.py::test_run_passes_stdin_through", ""),
    "process.terminal": ("OpenTerminal SetTerminal", f"{_NODES}::test_a_terminal_without_devpts", ""),
    "process.consoleSize": ("OpenTerminal", "kernel/test_terminal.py::test_the_console_socket_gets_the_terminal", ""),
    "process.cwd": ("MakeWorkingDirectory ChangeDirectory", f"{_PIVOT}::test_a_working_directory_that_cannot_be", ""),
    "process.env": ("PrepareExecve", "security/test_decoys.py::test_environment_of_the_container", ""),
    "process.args": ("LookUp Execve", "kernel/test_lifecycle.py::test_run_passes_stdin_through", ""),
    "process.user": ("SetIdentity", f"{_WHOLE}::test_another_user", ""),
    "process.user.umask": ("SetUmask", f"{_EXEC}::test_umask", ""),
    "process.capabilities": ("SetCapabilities", "security/test_identity.py::test_capabilities_are_exactly_those", ""),
    "process.capabilities.bounding": (
        "SetIdentity",
        "security/test_identity.py::test_capabilities_are_exactly_those",
        "",
    ),
    "process.capabilities.ambient": (
        "SetCapabilities",
        "security/test_identity.py::test_ambient_takes_what_is_inheritable_only",
        "4.3",
    ),
    "process.rlimits": ("SetRlimits", "kernel/test_lifecycle.py::test_rlimits_of_a_user_who_is_not_root", ""),
    "process.noNewPrivileges": (
        "SetNoNewPrivileges",
        "security/test_seal.py::test_an_image_cannot_attack_the_runtime",
        "",
    ),
    "process.oomScoreAdj": ("SetOomScoreAdj", f"{_EXEC}::test_scores_affinity_and_session", ""),
    "process.apparmorProfile": ("SetApparmorProfile", "unit/test_plan_exec.py::test_labels_through_the_hosts_proc", ""),
    "process.selinuxLabel": ("SetSelinuxLabel", "unit/test_plan_exec.py::test_labels_through_the_hosts_proc", ""),
    "process.scheduler": ("SetScheduler", f"{_PROCESS}::test_scheduler", "3.14"),
    "process.scheduler.priority": ("SetScheduler", "unit/test_properties_docs.py::test_real_time", "3.14"),
    "process.scheduler.runtime": ("SetScheduler", f"{_PROCESS}::test_deadline", "3.14"),
    "process.scheduler.deadline": ("SetScheduler", f"{_PROCESS}::test_deadline", "3.14"),
    "process.scheduler.period": ("SetScheduler", f"{_PROCESS}::test_deadline", "3.14"),
    "process.ioPriority": ("SetIoPriority", f"{_PROCESS}::test_io_priority", ""),
    "process.execCPUAffinity": ("SetAffinity", f"{_EXEC}::test_scores_affinity_and_session", ""),
    "hostname": ("SetHostname", "kernel/test_plugins.py::test_a_stage_in_the_place_of_a_built_in_one", ""),
    "domainname": ("SetDomainname", f"{_HIDE}::test_sysctls", ""),
    "mounts": ("MountFilesystem Bind", f"{_MOUNTS}::test_a_file_on_a_directory_and_the_reverse", ""),
    "mounts[].type": ("MountFilesystem", f"{_MOUNTS}::test_a_tmpfs_has_the_mode_of_what_it_covers", ""),
    "mounts[].source": ("OpenSource", f"{_MOUNTS}::test_a_file_on_a_directory_and_the_reverse", ""),
    "mounts[].options": ("MountFilesystem Bind", "unit/test_mount_words.py", "nosymfollow 5.10, recursive ones 5.12"),
    "mounts[].uidMappings": ("MakeIdMap OpenIdMap", f"{_WHOLE}::test_idmapped_bind_mount", "5.12"),
    "mounts[].gidMappings": ("MakeIdMap OpenIdMap", f"{_WHOLE}::test_idmapped_bind_mount", "5.12"),
    "hooks": ("RunHook", "unit/test_plan_hooks.py::test_every_kind_has_its_moment", ""),
    "hooks.prestart[].path": ("RunHook", f"{_HOOKS}::test_without_env_the_environment_is_empty", ""),
    "hooks.prestart[].args": ("RunHook", f"{_HOOKS}::test_args_0", ""),
    "hooks.prestart[].env": ("RunHook", f"{_HOOKS}::test_environment_as_getenv_finds_it", ""),
    "hooks.prestart[].timeout": ("RunHook", f"{_HOOKS}::test_timeout", ""),
    "hooks.createContainer[].path": ("OpenHook RunHook", f"{_HOOKS}::test_missing_create_container_hook", ""),
    "hooks.startContainer[].path": ("RunHook", f"{_HOOKS}::test_start_container_is_the_container_s", ""),
    "annotations": (
        "- shown by state and given to hooks",
        "security/test_input.py::test_state_of_many_annotations",
        "",
    ),
    "linux.namespaces[].type": ("Spawn Unshare", f"{_WHOLE}::test_user_namespace", "cgroup 4.6, time 5.6"),
    "linux.namespaces[].path": ("OpenNamespace Setns SetnsForChild", f"{_NET}::test_joined_namespace", ""),
    "linux.uidMappings": ("WriteIdMaps", f"{_WHOLE}::test_user_namespace", ""),
    "linux.gidMappings": ("WriteIdMaps", f"{_WHOLE}::test_user_namespace", ""),
    "linux.timeOffsets": ("TimeOffsets", f"{_PROCESS}::test_clocks", "5.6"),
    "linux.devices": ("MakeNodes", f"{_NODES}::test_a_node_that_is_there_must_be_the_same", ""),
    "linux.devices[].fileMode": (
        "MakeNodes",
        "security/test_mounts.py::test_g5_entries_of_dev_are_links_to_the_host",
        "",
    ),
    "linux.netDevices": ("HoldNamespace MoveDevice", f"{_NET}::test_there_and_back", ""),
    "linux.cgroupsPath": (
        "CreateCgroup CreateUnifiedCgroup StartScope",
        "kernel/test_stage_cgroups.py::test_paths_that_escape_create_nothing",
        "",
    ),
    "linux.resources": ("Write", "kernel/test_stage_cgroups.py::test_a_limit_in_force", ""),
    "linux.resources.devices": (
        "LimitDevices LimitDevicesByProgram",
        f"{_WHOLE}::test_a_device_can_be_allowed",
        "by program 4.15",
    ),
    "linux.resources.memory": ("Write WriteTogether", f"{_WHOLE}::test_memory_limit", ""),
    "linux.resources.memory.kernel": ("- deprecated, ignored", "unit/test_leniency.py::test_warned", ""),
    "linux.resources.memory.kernelTCP": ("Write", f"{_V1}::test_files", ""),
    "linux.resources.memory.swappiness": ("Write", f"{_V1}::test_files", ""),
    "linux.resources.memory.disableOOMKiller": ("Write", f"{_V1}::test_the_oom_killer_can_be_off", ""),
    "linux.resources.memory.useHierarchy": ("- always on", f"{_PLAN}::test_values_that_mean_unset", ""),
    "linux.resources.memory.checkBeforeUpdate": ("CheckUsage", f"{_V2}::test_limit_below_the_usage", ""),
    "linux.resources.cpu": ("Write WriteTogether", f"{_WHOLE}::test_processor_limits", ""),
    "linux.resources.cpu.burst": ("Write WriteTogether", f"{_V1}::test_limits_that_bound_each_other", "5.14"),
    "linux.resources.cpu.realtimeRuntime": ("WriteTogether", f"{_PLAN}::test_realtime_on_v1", ""),
    "linux.resources.cpu.realtimePeriod": ("WriteTogether", f"{_PLAN}::test_realtime_on_v1", ""),
    "linux.resources.cpu.cpus": ("Write", f"{_WHOLE}::test_processor_set", "v2: 5.0"),
    "linux.resources.cpu.mems": ("Write", "kernel/test_events.py::test_statistics_are_those_of_the_cgroup", "v2: 5.0"),
    "linux.resources.cpu.idle": ("Write", f"{_V1}::test_files", "5.15"),
    "linux.resources.pids": ("WriteLate", f"{_WHOLE}::test_number_of_processes", "4.3"),
    "linux.resources.blockIO": ("Write WriteFirst", f"{_V2}::test_block_io", ""),
    "linux.resources.blockIO.weight": ("WriteFirst", f"{_V2}::test_io_weight_goes_where_the_kernel_has_it", ""),
    "linux.resources.blockIO.leafWeight": (
        "Write",
        "kernel/test_stage_cgroups.py::test_a_missing_file_is_an_error_with_a_hint",
        "until 5.0",
    ),
    "linux.resources.blockIO.weightDevice[].leafWeight": (
        "Write",
        f"{_PLAN}::test_what_v2_cannot_do_is_an_error",
        "until 5.0",
    ),
    "linux.resources.hugepageLimits": ("Write", f"{_PLAN}::test_huge_page_sizes", "v2: 5.6"),
    "linux.resources.network": ("Write", f"{_PLAN}::test_v1_controllers_that_are_not_mounted", ""),
    "linux.resources.network.priorities": ("Write", f"{_PLAN}::test_interface_names", ""),
    "linux.resources.rdma": ("Write", f"{_PLAN}::test_rdma_names", "4.11"),
    "linux.resources.unified": ("WriteLate", f"{_V2}::test_unknown_files_are_errors", "4.5"),
    "linux.rootfsPropagation": ("SetPropagation SetRootPropagation", f"{_PIVOT}::test_root_on_a_shared_mount", ""),
    "linux.sysctl": ("WriteSysctls", f"{_HIDE}::test_sysctls", ""),
    "linux.maskedPaths": ("Mask MaskClassic", f"{_HIDE}::test_masks_in_a_user_namespace", ""),
    "linux.readonlyPaths": (
        "MakeReadOnly MakeReadOnlyClassic",
        f"{_HIDE}::test_hidden_mount_below_read_only_path",
        "",
    ),
    "linux.mountLabel": ("MountFilesystem", "unit/test_plan_rootfs.py::test_a_label_without_selinux_is_an_error", ""),
    "linux.seccomp": ("CompileSeccomp LoadSeccomp", f"{_FILTER}::test_deadly_actions", "3.17"),
    "linux.seccomp.defaultErrnoRet": ("CompileSeccomp", f"{_SECCOMP}::test_refused", "3.17"),
    "linux.seccomp.architectures": ("CompileSeccomp", f"{_FILTER}::test_the_stub_denies_nothing", "3.17"),
    "linux.seccomp.flags": (
        "LoadSeccomp",
        f"{_SECCOMP}::test_flags",
        "LOG 4.14, SPEC_ALLOW 4.17, WAIT_KILLABLE_RECV 5.19",
    ),
    "linux.seccomp.listenerPath": ("ConnectListener SendListener", f"{_NOTIFY}::test_no_agent", "5.0"),
    "linux.seccomp.listenerMetadata": ("SendListener", f"{_SECCOMP}::test_refused", "5.0"),
    "linux.seccomp.syscalls[].errnoRet": (
        "CompileSeccomp",
        f"{_FILTER}::test_trace_without_a_tracer_is_enosys",
        "3.17",
    ),
    "linux.seccomp.syscalls[].args": ("CompileSeccomp", f"{_FILTER}::test_operators", "3.17"),
    "linux.intelRdt": ("MakeClass JoinClass", f"{_RDT}::test_a_class_of_its_own", "4.10"),
    "linux.intelRdt.closID": ("MakeClass JoinClass", f"{_RDT}::test_a_class_that_is_there", "4.10"),
    "linux.intelRdt.memBwSchema": ("MakeClass", f"{_RDT}::test_what_is_written", "4.12"),
    "linux.intelRdt.l3CacheSchema": ("MakeClass", f"{_RDT}::test_what_is_written", "4.10"),
    "linux.intelRdt.schemata": ("MakeClass", f"{_RDT}::test_same_shares", "4.10"),
    "linux.intelRdt.enableMonitoring": ("Monitor", f"{_RDT}::test_a_class_of_its_own", "4.14"),
    "linux.memoryPolicy": ("SetMemoryPolicy", f"{_PROCESS}::test_memory_policy", "PREFERRED_MANY 5.15, WEIGHTED 6.9"),
    "linux.memoryPolicy.nodes": ("SetMemoryPolicy", f"{_PROCESS}::test_memory_policy", ""),
    "linux.memoryPolicy.flags": ("SetMemoryPolicy", f"{_PROCESS}::test_memory_policy", "NUMA_BALANCING 5.12"),
    "linux.personality": ("SetPersonality", f"{_PROCESS}::test_personality", ""),
    "linux.personality.flags": ("- none are defined, ignored", "unit/test_explain.py::test_warnings", ""),
}
#: The elements of these arrays are as those of hooks.prestart, unless they are listed.
HOOKS = ("createRuntime", "createContainer", "startContainer", "poststart", "poststop")
