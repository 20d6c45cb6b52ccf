"""The messages of CRIU's service interface that are used: names, numbers and kinds of images/rpc.proto."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.wire.protobuf import Schema

#: criu_req_type
DUMP, RESTORE, PRE_DUMP, NOTIFY, FEATURE_CHECK, VERSION = 1, 2, 4, 6, 9, 10
NAMES = {
    DUMP: "DUMP",
    RESTORE: "RESTORE",
    PRE_DUMP: "PRE_DUMP",
    NOTIFY: "NOTIFY",
    FEATURE_CHECK: "FEATURE_CHECK",
    VERSION: "VERSION",
}
#: criu_cg_mode
CGROUP_MODES = {"ignore": 0, "soft": 3, "full": 4, "strict": 5}
#: criu_network_lock_method
NETWORK_LOCKS = {"iptables": 1, "nftables": 2, "skip": 3}

_PAGE_SERVER: Schema = {"address": (1, "string"), "port": (2, "int32")}
_EXT_MOUNT: Schema = {"key": (1, "string"), "val": (2, "string")}
_INHERIT_FD: Schema = {"key": (1, "string"), "fd": (2, "int32")}
_CGROUP_ROOT: Schema = {"ctrl": (1, "string"), "path": (2, "string")}
_JOIN_NS: Schema = {"ns": (1, "string"), "ns_file": (2, "string")}

OPTIONS: Schema = {
    "images_dir_fd": (1, "int32"),
    "pid": (2, "int32"),
    "leave_running": (3, "bool"),
    "ext_unix_sk": (4, "bool"),
    "tcp_established": (5, "bool"),
    "evasive_devices": (6, "bool"),
    "shell_job": (7, "bool"),
    "file_locks": (8, "bool"),
    "log_level": (9, "int32"),
    "log_file": (10, "string"),
    "ps": (11, _PAGE_SERVER),
    "notify_scripts": (12, "bool"),
    "root": (13, "string"),
    "parent_img": (14, "string"),
    "track_mem": (15, "bool"),
    "auto_dedup": (16, "bool"),
    "work_dir_fd": (17, "int32"),
    "link_remap": (18, "bool"),
    "ext_mnt": (23, [_EXT_MOUNT]),
    "manage_cgroups": (24, "bool"),
    "cg_root": (25, [_CGROUP_ROOT]),
    "rst_sibling": (26, "bool"),
    "inherit_fd": (27, [_INHERIT_FD]),
    "manage_cgroups_mode": (34, "int32"),
    "external": (37, ["string"]),
    "empty_ns": (38, "uint32"),
    "join_ns": (39, [_JOIN_NS]),
    "freeze_cgroup": (44, "string"),
    "tcp_skip_in_flight": (46, "bool"),
    "lazy_pages": (48, "bool"),
    "status_fd": (49, "int32"),
    "orphan_pts_master": (50, "bool"),
    "config_file": (51, "string"),
    "tcp_close": (52, "bool"),
    "lsm_profile": (53, "string"),
    "lsm_mount_context": (63, "string"),
    "network_lock": (64, "int32"),
    "mntns_compat_mode": (65, "bool"),
}
FEATURES: Schema = {"mem_track": (1, "bool"), "lazy_pages": (2, "bool")}
REQUEST: Schema = {"type": (1, "int32"), "opts": (2, OPTIONS), "notify_success": (3, "bool"), "features": (5, FEATURES)}
_VERSION: Schema = {"major_number": (1, "int32"), "minor_number": (2, "int32"), "sublevel": (4, "int32")}
RESPONSE: Schema = {
    "type": (1, "int32"),
    "success": (2, "bool"),
    "restore": (4, {"pid": (1, "int32")}),
    "notify": (5, {"script": (1, "string"), "pid": (2, "int32")}),
    "cr_errno": (7, "int32"),
    "features": (8, FEATURES),
    "cr_errmsg": (9, "string"),
    "version": (10, _VERSION),
}
