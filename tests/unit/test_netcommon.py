"""What the plugins network and cni have in common: ports, files, name servers."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from gosudacon.api import RESTORE, ConfigError, Context, Error, Host, Options, Spec, Stage, Step
from gosudacon.pipeline import discovery
from gosudacon.plugins import cni
from gosudacon.plugins.cni import Cni
from gosudacon.plugins.netcommon import files, members, ports, resolver, sockets
from gosudacon.plugins.network import Network

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

    from gosudacon.schema.types import Config


@pytest.mark.parametrize(
    "text, address, host, container, count, protocol",
    [
        ("80", "", 0, 80, 1, "tcp"),
        (":80", "", 0, 80, 1, "tcp"),
        ("8080:80", "", 8080, 80, 1, "tcp"),
        ("8080:80/udp", "", 8080, 80, 1, "udp"),
        ("8000-8010:9000-9010/sctp", "", 8000, 9000, 11, "sctp"),
        ("8000-8010", "", 0, 8000, 11, "tcp"),
        ("127.0.0.1:8080:80", "127.0.0.1", 8080, 80, 1, "tcp"),
        ("127.0.0.1::80", "127.0.0.1", 0, 80, 1, "tcp"),
        ("0.0.0.0:1:65535", "0.0.0.0", 1, 65535, 1, "tcp"),
        ("[::1]:8080:80", "::1", 8080, 80, 1, "tcp"),
        ("[0:0::1]::80/udp", "::1", 0, 80, 1, "udp"),
    ],
)
def test_ports(text: str, address: str, host: int, container: int, count: int, protocol: str) -> None:
    for port in (ports.parse(text), ports.parse(str(ports.parse(text)))):
        found = (port.address, port.host, port.container, port.count, port.protocol)
        assert found == (address, host, container, count, protocol)


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "'' is not a port of the container"),
        ("0", "'0' is not a port of the container"),
        ("65536", "not a port"),
        ("x:80", "'x' is not a port of the host"),
        ("8080:80/icmp", "tcp, udp or sctp, not 'icmp'"),
        ("8080:80/", "tcp, udp or sctp, not ''"),
        ("8000-8010:80", "11 ports of the host for 1 of the container"),
        ("8010-8000:8010-8000", "ends before it begins"),
        ("8080:80-", "'' is not a port"),
        ("1.2.3:8080:80", "'1.2.3' is not an IPv4 address"),
        ("example.com:8080:80", "not an IPv4 address"),
        ("::1:8080:80", "too many colons"),
        ("[::1:8080:80", "a bracket that is not closed"),
        ("[::1]:80", "write IP:HOSTPORT:PORT"),
        ("[1.2.3.4]:80:80", "not an IPv6 address"),
        ("\N{ARABIC-INDIC DIGIT ONE}", "not a port"),
    ],
)
def test_what_is_no_port(text: str, said: str) -> None:
    with pytest.raises(ValueError) as error:
        ports.parse(text)
    assert said in str(error.value)


@pytest.mark.parametrize(
    "one, other, overlap",
    [
        ("80:80", "80:81", True),
        ("80:80", "80:80/udp", False),
        ("80:80", "127.0.0.1:80:80", True),
        ("0.0.0.0:80:80", "127.0.0.1:80:80", True),
        ("0.0.0.0:80:80", "[::]:80:80", False),
        ("80:80", "[::1]:80:80", True),
        ("127.0.0.1:80:80", "127.0.0.2:80:80", False),
        ("80-90:80-90", "90:1", True),
        ("80-89:80-89", "90:1", False),
        (":80", ":80", False),
    ],
)
def test_ports_that_want_the_same(one: str, other: str, overlap: bool) -> None:
    first, second = ports.parse(one), ports.parse(other)
    assert first.overlaps(second) == second.overlaps(first) == overlap


def spec(config: Config | None = None, **options: object) -> Spec:
    return Spec(config or {}, "web", "/b", Options.among(options))


def test_ports_of_option_and_annotation() -> None:
    config: Config = {"annotations": {ports.ANNOTATION: "8081:81, 8082:82/udp"}}
    found = ports.asked(spec(config, publish=["8080:80"]), annotations=True)
    assert list(map(str, found)) == ["8080:80/tcp", "8081:81/tcp", "8082:82/udp"]
    assert list(map(str, ports.asked(spec(config), annotations=False))) == []
    (warning,) = ports.ignored(spec(config), ports.ANNOTATION, "[stage.network] annotations")
    assert warning.describe() == (
        "annotations.io.gosudacon.publish: ignored: [stage.network] annotations of the administrator's "
        "configuration would allow it"
    )
    assert list(ports.ignored(spec(), ports.ANNOTATION, "")) == []


def test_errors_say_who_asked() -> None:
    with pytest.raises(Error, match=r"--publish x: 'x' is not a port of the container"):
        ports.asked(spec(publish=["x"]), annotations=True)
    with pytest.raises(Error, match=r"--publish: 80:2/tcp and 80:1/tcp want one port of the host"):
        ports.asked(spec(publish=["80:1", "80:2"]), annotations=True)
    with pytest.raises(ConfigError) as error:
        ports.asked(spec({"annotations": {ports.ANNOTATION: "80:x"}}), annotations=True)
    assert error.value.where == f"annotations.{ports.ANNOTATION}"


def test_name_servers_that_a_container_can_reach(tmp_path: Path) -> None:
    stub, real = tmp_path / "stub", tmp_path / "real"
    stub.write_text("# local\nnameserver 127.0.0.53\nnameserver ::1\noptions edns0 trust-ad\nsearch a b\nsearch c\n")
    real.write_text("nameserver 192.0.2.1\nnameserver 192.0.2.1\n; x\nnameserver fe80::1%e\nnameserver\nsearch c d\n")
    paths = [str(stub), str(real)]
    assert resolver.of_host(paths).text() == "nameserver 192.0.2.1\nsearch c d\n"
    assert resolver.of_host(paths[:1]).text() == "search c\noptions edns0 trust-ad\n"
    assert resolver.of_host([str(tmp_path / "none")]).text() == ""
    replaced = resolver.of_host(paths).replaced(["198.51.100.1"], [], ["ndots:1"])
    assert replaced.text() == "nameserver 198.51.100.1\nsearch c d\noptions ndots:1\n"


def test_files_that_config_json_mounts_are_left_to_it() -> None:
    namespaces: Config = {"linux": {"namespaces": [{"type": "mount"}]}}
    mounts: Config = {**namespaces, "mounts": [{"destination": "/etc//hosts/"}]}
    assert files.wanted(spec(namespaces)) == ["resolv.conf", "hosts", "hostname"]
    assert files.wanted(spec(mounts)) == ["resolv.conf", "hostname"]
    assert files.wanted(spec()) == []
    assert files.wanted(spec({"linux": {"namespaces": [{"type": "mount", "path": "/x"}]}})) == []
    assert [type(step).__name__ for step in files.steps(spec(namespaces), Host())] == ["MakeFiles", "MountFiles"]
    (warning,) = files.steps(spec(namespaces), Host(kernel=(5, 10)))
    assert "Linux 5.12" in warning.describe()


def restored(stage: Stage, config: Config, facts: object = None, **settings: object) -> list[Step]:
    """The stage's steps for a container that CRIU restores."""
    stage.settings = settings
    made = spec(config)
    host = Host()
    host.facts["cni"] = facts
    return list(stage.plan_restore(made, host))


def test_a_restored_container_gets_its_files_alone(tmp_path: Path) -> None:
    """CRIU mounts them: the images have the places, and not what is in them. The network is not made again."""
    own: Config = {"hostname": "db", "linux": {"namespaces": [{"type": "mount"}, {"type": "network"}]}}
    joined: Config = {"linux": {"namespaces": [{"type": "mount"}, {"type": "network", "path": "/x"}]}}
    assert restored(Network(), joined) == restored(Network(), own, names=False) == []
    assert restored(Cni(), own) == restored(Cni(), own, {"names": False}) == []
    (step,) = restored(Cni(), own, {"names": True})
    assert step.describe() == (
        "make resolv.conf, hosts and hostname in the state directory, should the images have had them"
    )
    (step,) = restored(Network(), own, dns_servers=["192.0.2.53"])
    context = Context(spec(own), Host())
    context.state_dir = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        step.run(context)
    finally:
        os.close(context.state_dir)
    assert (tmp_path / "resolv.conf").read_text().startswith("nameserver 192.0.2.53\n")
    assert (tmp_path / "hosts").read_text() == files.LOCALHOST
    assert (tmp_path / "hostname").read_text() == "db\n"


@pytest.mark.parametrize(("path", "names"), [("", True), ("/x", False)])
def test_what_cni_finds_out_for_a_restore(path: str, names: bool) -> None:
    made = spec({"linux": {"namespaces": [{"type": "network", "path": path} if path else {"type": "network"}]}})
    made.operation = RESTORE
    assert cni.gosudacon_gather_facts(made, Host(), {}) == {"names": names}


def test_writing_keeps_the_file(tmp_path: Path) -> None:
    context = Context(spec(), Host())
    context.state_dir = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        files.write(context, files.HOSTS, "nobody made it\n")
        assert list(tmp_path.iterdir()) == []
        (tmp_path / "hosts").write_text("127.0.0.1 localhost and more\n")
        inode = (tmp_path / "hosts").stat().st_ino
        files.write(context, files.HOSTS, "127.0.0.1 web\n")
        assert (tmp_path / "hosts").read_text() == "127.0.0.1 web\n"
        assert (tmp_path / "hosts").stat().st_ino == inode
        (tmp_path / "hostname").symlink_to(tmp_path / "hosts")
        with pytest.raises(OSError):
            files.write(context, files.HOSTNAME, "x\n")
        assert (tmp_path / "hosts").read_text() == "127.0.0.1 web\n"
    finally:
        os.close(context.state_dir)


def test_it_is_no_plugin() -> None:
    names = [each.name for each in discovery.available()]
    assert "network" in names
    assert "netcommon" not in names
    with pytest.raises(Error, match="'netcommon' is enabled but not installed"):
        discovery.parts("netcommon")


# Ports of the host.


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def test_a_port_with_a_listener_is_taken(listener: socket.socket) -> None:
    number = listener.getsockname()[1]
    for text in (f"{number}:80", f"127.0.0.1:{number}:80", f"0.0.0.0:{number}:80"):
        with pytest.raises(Error) as error:
            sockets.settle([ports.parse(text)], [])
        assert f"a process of the host has tcp port {number}" in error.value.message
    for text in (f"{number}:80/udp", f"[::1]:{number}:80", f"127.0.0.2:{number}:80"):
        assert [str(port) for port in sockets.settle([ports.parse(text)], [])] == [str(ports.parse(text))]


def test_a_port_of_another_container(listener: socket.socket) -> None:
    taken = [("other", ports.parse("127.0.0.1:1:1"))]
    with pytest.raises(
        Error, match=r"1-2:1-2/tcp cannot be published: container other has published 127\.0\.0\.1:1:1/tcp"
    ):
        sockets.settle([ports.parse("1-2:1-2")], taken)


def test_an_address_that_is_not_the_hosts() -> None:
    for text in ("192.0.2.77::80", "192.0.2.77:80:80"):
        with pytest.raises(Error, match=r"the host has no address 192\.0\.2\.77"):
            sockets.settle([ports.parse(text)], [])


def test_ports_that_the_kernel_chooses() -> None:
    wanted = [ports.parse("127.0.0.1::80"), ports.parse("127.0.0.1::8000-8003/udp"), ports.parse("80")]
    found = sockets.settle(wanted, [])
    assert all(port.host and port.count == other.count for port, other in zip(found, wanted, strict=True))
    ports.check(found)


def test_own_names() -> None:
    """A hostname that would be more than one word of a hosts file is none of them."""
    for hostname in ("a b", "a\n10.0.0.1 bank", "a#", "ä", ""):
        assert members.names(Spec({"hostname": hostname}, "id", "/b")) == ["id"]
    assert members.names(Spec({"hostname": "web"}, "web", "/b")) == ["web"]
