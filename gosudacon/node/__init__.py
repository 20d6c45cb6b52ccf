"""The installer for the nodes of a cluster: the program of the image of deploy/kubernetes (docs/kubernetes.md).

May use: base, launcher, wire, pipeline, container; nothing of ours imports it.
Start with `agent`, the loop of the pod. Each of its passes is a process of its own whose root is the node's (`pass_`):
links there lead where they lead for the node. It puts things in place (`install`) or takes them away (`remove`):
versions of the program (`versions`), and what the engine must know (`engines`). `files` has what is noted on the node.
"""
