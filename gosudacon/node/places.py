"""Where things are: on a node, in the image, and in the pod that runs the image."""

from __future__ import annotations

#: On the node and in the image: versions of the program, and a link to the one that engines call.
PREFIX = "/opt/gosudacon-node"
VERSIONS, CURRENT = "versions", "current"
#: In a version: the interpreter's directory, the program that installs, and the shim.
PYTHON, PROGRAM, SHIM = "python", "gosudacon-node", "containerd-shim-gosudacon-v1"
#: In PREFIX on the node: what was changed there.
RECORD = "record.json"

#: The runtime's name: in engines' configurations, and the handler of the RuntimeClass.
HANDLER = "gosudacon"
#: The administrator's configuration of the node.
CONFIG = "/etc/gosudacon/config.toml"
#: Where the shim keeps the states of its containers: a directory for each containerd, in it one for each namespace.
SHIM_STATES = "/run/containerd/gosudacon"

#: What the node object carries: whether pods may come, and what there is to say.
LABEL, READY = "gosudacon.io/runtime", "ready"
STATE, TROUBLE = "gosudacon.io/state", "gosudacon.io/trouble"
