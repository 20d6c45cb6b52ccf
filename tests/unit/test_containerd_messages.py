"""The messages between containerd and a shim: our tables against a second transcription, and what is made of them."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("google.protobuf", "6.30", reason="needs protobuf")

from google.protobuf.descriptor import Descriptor

from gosudacon.wire import containerd, metrics, protobuf, ttrpc
from tests.support import containerd_api
from tests.support.messages import as_ours, library_class, random_message

if TYPE_CHECKING:
    from gosudacon.wire.protobuf import Kind, Schema

BOOTSTRAP = "containerd.runtime.bootstrap.v1.Bootstrap"


def schemas() -> dict[str, Schema]:
    """The schema of each message by its full name."""
    found: dict[str, Schema] = {
        "google.protobuf.Any": containerd.ANY,
        "google.protobuf.Timestamp": containerd.TIMESTAMP,
        "containerd.types.Mount": containerd.MOUNT,
        "containerd.types.RuntimeInfo": containerd.RUNTIME_INFO,
        "containerd.services.events.ttrpc.v1.ForwardRequest": containerd.FORWARD_REQUEST,
        f"{BOOTSTRAP}Params": containerd.BOOTSTRAP_PARAMS,
        f"{BOOTSTRAP}Result": containerd.BOOTSTRAP_RESULT,
        "containerd.task.v2.DeleteResponse": containerd.DELETE_RESPONSE,
        "ttrpc.Request": ttrpc.REQUEST_SCHEMA,
        metrics.V1_TYPE: metrics.V1,
        metrics.V2_TYPE: metrics.V2,
        **containerd.IN_ANY,
    }
    for method, pair in containerd.TASK.items():
        for name, schema in zip(containerd_api.METHODS[method], pair, strict=True):
            found[f"containerd.task.v2.{name}" if name else "google.protobuf.Empty"] = schema
    return found


SCHEMAS = schemas()


def kinds(descriptor: Descriptor) -> dict[str, tuple[int, object]]:
    """A message of the library in the form of our schemas."""
    found: dict[str, tuple[int, object]] = {}
    for field in descriptor.fields:
        message = field.message_type
        if message is not None and message.GetOptions().map_entry:
            found[field.name] = (field.number, tuple(kind for _, kind in kinds(message).values()))
            continue
        kind = scalar(field.type) if message is None else kinds(message)
        found[field.name] = (field.number, [kind] if field.is_repeated else kind)
    return found


def scalar(number: int) -> str:
    name: str = containerd_api.Field.Type.Name(number)
    return name.removeprefix("TYPE_").lower()


def plain(kind: Kind) -> object:
    """A kind whose schemas are ordinary dictionaries in the order of their numbers."""
    if isinstance(kind, (str, tuple)):
        return kind
    if isinstance(kind, list):
        return [plain(kind[0])]
    return {name: (number, plain(each)) for name, (number, each) in kind.items()}


@pytest.mark.parametrize("name", SCHEMAS)
def test_names_numbers_and_kinds(name: str) -> None:
    assert plain(SCHEMAS[name]) == kinds(containerd_api.message_class(name).DESCRIPTOR)


def test_every_method_has_its_messages() -> None:
    assert sorted(containerd.TASK) == sorted(containerd_api.METHODS)


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_same_bytes(name: str) -> None:
    """What we write containerd's own message reads, and the other way round."""
    schema = SCHEMAS[name]
    generator = random.Random(name)
    for library in (containerd_api.message_class(name), library_class(schema)):
        for _ in range(20):
            message = random_message(generator, schema)
            theirs = library.FromString(protobuf.encode(schema, message))
            assert as_ours(schema, theirs) == message
            assert protobuf.decode(schema, theirs.SerializeToString()) == message


def test_an_event_in_its_envelope() -> None:
    moment = 1_700_000_000_123_456_789
    exit_ = {"container_id": "c", "id": "c", "pid": 7, "exit_status": 137, "exited_at": containerd.timestamp(moment)}
    data = containerd.forward_request("k8s.io", "TaskExit", exit_, moment)
    request = containerd_api.message_class("containerd.services.events.ttrpc.v1.ForwardRequest").FromString(data)
    envelope = request.envelope
    assert (envelope.namespace, envelope.topic) == ("k8s.io", "/tasks/exit")
    assert (envelope.timestamp.seconds, envelope.timestamp.nanos) == (1_700_000_000, 123_456_789)
    assert envelope.event.type_url == "containerd.events.TaskExit"
    event = containerd_api.message_class("containerd.events.TaskExit").FromString(envelope.event.value)
    assert as_ours(containerd.EVENTS["TaskExit"][1], event) == exit_


def test_topics() -> None:
    """containerd refuses an event whose topic does not begin with a slash."""
    assert {name: topic for name, (topic, _) in containerd.EVENTS.items()} == {
        "TaskCreate": "/tasks/create",
        "TaskStart": "/tasks/start",
        "TaskExit": "/tasks/exit",
        "TaskDelete": "/tasks/delete",
        "TaskOOM": "/tasks/oom",
        "TaskExecAdded": "/tasks/exec-added",
        "TaskExecStarted": "/tasks/exec-started",
        "TaskPaused": "/tasks/paused",
        "TaskResumed": "/tasks/resumed",
        "TaskCheckpointed": "/tasks/checkpointed",
    }


@pytest.mark.parametrize("prefix", ["", "type.googleapis.com/", "/"])
def test_options_in_an_any(prefix: str) -> None:
    packed = containerd.pack("containerd.runc.v1.Options", {"systemd_cgroup": True, "io_uid": 1000})
    packed["type_url"] = prefix + packed["type_url"]
    options = containerd.unpack(packed, "containerd.runc.v1.Options")
    assert options is not None
    assert (options["systemd_cgroup"], options["io_uid"], options["root"]) == (True, 1000, "")
    assert containerd.unpack(packed, "runtimeoptions.v1.Options") is None


def test_no_options() -> None:
    assert containerd.unpack(None, "containerd.runc.v1.Options") is None


def test_json_in_an_any() -> None:
    url = "types.containerd.io/opencontainers/runtime-spec/1/Process"
    assert containerd.type_name({"type_url": url, "value": b"{}"}) == "Process"


@pytest.mark.parametrize("moment", [0, 1, 999_999_999, 1_700_000_000_000_000_001, -1])
def test_moments(moment: int) -> None:
    """The nanoseconds count forward, also before 1970."""
    fields = containerd.timestamp(moment)
    assert 0 <= fields["nanos"] < 1_000_000_000
    assert fields["seconds"] * 1_000_000_000 + fields["nanos"] == moment


def test_start_reads_what_each_version_sends() -> None:
    """Nothing; options; and from 2.3 parameters, in which a type's name may look like options."""
    options = containerd.pack("containerd.runc.v1.Options", {"binary_name": "x"})
    alone = protobuf.encode(containerd.ANY, options)
    params = {
        "instance_id": "containerd.runc.v1.Options",
        "namespace": "k8s.io",
        "log_level": -4,
        "extensions": [{"value": options}],
    }
    nothing = containerd.read_bootstrap(b"", "c")
    assert (nothing["instance_id"], nothing["extensions"]) == ("", [])
    former = containerd.read_bootstrap(alone, "c")
    assert (former["instance_id"], former["extensions"]) == ("", [{"value": options}])
    data = protobuf.encode(containerd.BOOTSTRAP_PARAMS, params)
    found = containerd.read_bootstrap(data, "containerd.runc.v1.Options")
    assert (found["namespace"], found["log_level"], found["extensions"]) == ("k8s.io", -4, [{"value": options}])


@pytest.mark.parametrize("data", [b"\xff", b"\x0a\x05ab", b"\x0b"])
def test_start_refuses_what_is_neither(data: bytes) -> None:
    with pytest.raises(protobuf.ProtobufError):
        containerd.read_bootstrap(data, "c")


def test_any_bytes_are_a_message_or_refused() -> None:
    generator = random.Random(5)
    for schema in SCHEMAS.values():
        for _ in range(150):
            data = bytearray(protobuf.encode(schema, random_message(generator, schema, 2)))
            for _ in range(generator.randrange(3)):
                at = generator.randrange(len(data) + 1)
                data[at : at + generator.randrange(4)] = generator.randbytes(generator.randrange(4))
            try:
                protobuf.decode(schema, bytes(data))
            except protobuf.ProtobufError:
                continue
