"""An OCI image archive made from a root filesystem, without a registry or a builder.

Layout and media types as in image-spec's image-layout.md and config.md.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path
from typing import Any

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def write_image(target: Path, rootfs: Path, name: str, config: dict[str, Any] | None = None) -> None:
    """Write an OCI archive (a tar file) to ``target`` with one image called ``name``.

    Its only layer is ``rootfs``; ``config`` is the image's ``config`` object (Env, User, WorkingDir, Cmd...).
    """
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(rootfs.rglob("*")):
            archive.add(path, arcname=str(path.relative_to(rootfs)), recursive=False)
    packed = gzip.compress(layer.getvalue(), compresslevel=1, mtime=0)
    settings = {
        "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {"Env": ["PATH=/usr/bin:/bin"], "Cmd": ["sh"], **(config or {})},
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer.getvalue())]},
    }
    blobs: dict[str, bytes] = {}
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": _blob(blobs, json.dumps(settings).encode(), "application/vnd.oci.image.config.v1+json"),
        "layers": [_blob(blobs, packed, "application/vnd.oci.image.layer.v1.tar+gzip")],
    }
    entry = _blob(blobs, json.dumps(manifest).encode(), str(manifest["mediaType"]))
    entry["annotations"] = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name}
    files = {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode(),
        **blobs,
    }
    with tarfile.open(target, "w") as archive:
        for member, data in files.items():
            item = tarfile.TarInfo(member)
            item.size = len(data)
            archive.addfile(item, io.BytesIO(data))


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _blob(blobs: dict[str, bytes], data: bytes, kind: str) -> dict[str, Any]:
    digest = _digest(data)
    blobs[f"blobs/sha256/{digest.removeprefix('sha256:')}"] = data
    return {"mediaType": kind, "digest": digest, "size": len(data)}
