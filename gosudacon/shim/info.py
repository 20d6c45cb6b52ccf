"""The question ``-info``: what this shim can do, which containerd from 2.0 on asks before its first container."""

from __future__ import annotations

from gosudacon import __version__
from gosudacon.base import jsonio
from gosudacon.container import features
from gosudacon.shim.arguments import NAME
from gosudacon.wire import containerd as wire
from gosudacon.wire import protobuf


def encoded(given: bytes) -> bytes:
    """The answer; ``given``: options, which are echoed. Raises `protobuf.ProtobufError`, `Error`."""
    options = protobuf.decode(wire.ANY, given)
    said = jsonio.dumps(features.features()).encode()
    info = {
        "name": NAME,
        "version": {"version": __version__},
        "options": options if options["type_url"] else None,
        "features": {"type_url": wire.FEATURES_TYPE, "value": said},
    }
    return protobuf.encode(wire.RUNTIME_INFO, info)
