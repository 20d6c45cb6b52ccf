"""What to write into the configuration of container engines so that they use this runtime."""

from __future__ import annotations

from pathlib import Path

_TEXT = """\
containerd 1.x, /etc/containerd/config.toml:

    version = 2
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{name}]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{name}.options]
        BinaryName = "{command}"

containerd 2.x, /etc/containerd/config.toml:

    version = 3
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.{name}]
      runtime_type = 'io.containerd.runc.v2'
      [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.{name}.options]
        BinaryName = '{command}'

    Without any configuration: ctr run --runc-binary {command} ...

Docker, /etc/docker/daemon.json; then docker run --runtime {name} ... (for all containers: "default-runtime": "{name}")

    {{ "runtimes": {{ "{name}": {{ "path": "{command}" }} }} }}

Podman, /etc/containers/containers.conf; then podman --runtime {name} run ...

    [engine.runtimes]
    {name} = ["{command}"]

CRI-O, /etc/crio/crio.conf.d/{name}.conf:

    [crio.runtime.runtimes.{name}]
    runtime_path = "{command}"
    runtime_type = "oci"
    runtime_root = "/run/{name}"
"""


def text(command: Path) -> str:
    """The snippets for the runtime installed as ``command``, which is also the name they give it."""
    return _TEXT.format(name=command.name, command=command)
