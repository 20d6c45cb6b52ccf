"""Where gosudacon keeps things: names in a container's state directory, and directories of the host."""

from __future__ import annotations

# In a container's state directory.
STATE = "state.json"
CONFIG = "config.json"  # in a bundle, too
ORIGINAL = "original.json"  # the configuration before plugins edited it
START_SOCKET = "start.sock"
CGROUPS_NOTE = "cgroups.note"
OLD_CGROUPS_NOTE = "cgroups.json"  # of 0.1.0: empty, or one object without a newline
INTEL_RDT_NOTE = "intel-rdt.note"
NETWORK_NAMESPACE = "netns"  # a file that the container's network namespace is bound on
NET_DEVICES_NOTE = "net-devices.note"
ROOT_NOTE = "root.note"  # which mount of the host is the root, of a container without a mount namespace
NOTIFY = "notify"  # a directory, mounted in the container
NOTIFY_SOCKET = "notify.sock"  # in that directory
CNI_NOTE = "cni.note"  # which plug-ins were called, and what they answered
CNI_NAMESPACE = "cni.netns"  # a file that the container's network namespace is bound on, for them
NAME_FILES = ("resolv.conf", "hosts", "hostname")  # mounted at /etc/NAME by plugins that connect the container
CRIU_ROOT = "criu-root"  # an empty directory, on which the root filesystem is mounted for CRIU alone
LEARN_NOTE = "learn.note"  # the recorder of system calls: its pid; locked while it lives
LEARN_SOCKET = "learn.sock"

# In a container that has a service manager to tell.
NOTIFY_MOUNT = "/run/notify"

# On the host; for users other than root, below $XDG_RUNTIME_DIR.
STATE_ROOT, USER_STATE_ROOT = "/run/gosudacon", "gosudacon"
CACHE, USER_CACHE = "/var/cache/gosudacon", "gosudacon-cache"
SECCOMP_CACHE = "seccomp"  # in either cache
CDI_CACHE = "cdi"  # in root's
NETWORK_LEASES = "/run/gosudacon-network"
TEMPLATES = "/run/gosudacon-shim"  # sockets of the shims' templates, one for each build
