"""deploy/kubernetes: what kubectl says to the manifests, and that the names in them are those that the program has.

There is no API server: that of the tests only says which kinds there are. kubectl then sees unknown kinds; of
DaemonSets it knows the fields and their types, too. The others are compared as a whole here, by hand.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from gosudacon.node import check, places
from gosudacon.node.agent import Settings
from tests.support.needs import needs
from tests.support.runtime import CHECKOUT

if TYPE_CHECKING:
    from typing import TypeAlias

    Manifest: TypeAlias = dict[str, Any]

HERE = CHECKOUT / "deploy/kubernetes"
BASE, EXAMPLE = HERE / "base", HERE / "overlays/example"
KINDS = {
    "v1": ("Namespace", "ServiceAccount", "ConfigMap"),
    "apps/v1": ("DaemonSet",),
    "node.k8s.io/v1": ("RuntimeClass",),
    "rbac.authorization.k8s.io/v1": ("ClusterRole", "ClusterRoleBinding"),
}
UNSCOPED = ("Namespace", "RuntimeClass", "ClusterRole", "ClusterRoleBinding")


def manifests() -> list[Manifest]:
    """All objects of the base, without the ConfigMap, which kustomize makes."""
    listed = yaml.safe_load((BASE / "kustomization.yaml").read_text())["resources"]
    return [each for name in listed for each in yaml.safe_load_all((BASE / name).read_text())]


def one(kind: str, name: str = "") -> Manifest:
    """The object of a kind."""
    (found,) = [each for each in manifests() if each["kind"] == kind and name in ("", each["metadata"]["name"])]
    return found


def pod(name: str) -> Manifest:
    """The pod of a DaemonSet."""
    found: Manifest = one("DaemonSet", name)["spec"]["template"]["spec"]
    return found


PODS = ("gosudacon-install", "gosudacon-remove")


# What kubectl says.


@pytest.fixture
def discovery() -> Iterator[str]:
    """The address of what says which kinds there are, and knows nothing else."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = _discovered(self.path.partition("?")[0])
            body = json.dumps(
                found or {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404}
            ).encode()
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def _discovered(path: str) -> Manifest:
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        groups = [(version.partition("/")[0], version) for version in KINDS if "/" in version]
        given = [{"groupVersion": version, "version": version.partition("/")[2]} for _, version in groups]
        found = [
            {"name": name, "versions": [each], "preferredVersion": each}
            for (name, _), each in zip(groups, given, strict=True)
        ]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": found}
    version = path.removeprefix("/apis/").removeprefix("/api/")
    if version not in KINDS:
        return {}
    resources = [
        {
            "name": "runtimeclasses" if kind == "RuntimeClass" else f"{kind.lower()}s",
            "singularName": kind.lower(),
            "namespaced": kind not in UNSCOPED,
            "kind": kind,
            "verbs": ["create", "get", "patch"],
        }
        for kind in KINDS[version]
    ]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources}


def kubectl(*words: str | Path, home: Path, given: str = "") -> str:
    """What kubectl prints."""
    result = subprocess.run(
        ["kubectl", *map(str, words)],
        input=given,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "HOME": str(home), "KUBECONFIG": str(home / "none")},
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def is_old() -> bool:
    """Whether kubectl is older than 1.21: its kustomize takes no directory as a resource."""
    if shutil.which("kubectl") is None:
        return False
    text = subprocess.run(["kubectl", "version", "--client"], capture_output=True, text=True, check=False).stdout
    found = re.search(r'v1\.(\d+)|Minor:"(\d+)', text)
    assert found is not None, text
    return int(found[1] or found[2]) < 21


@needs("program:kubectl")
def test_kubectl_takes_them(discovery: str, tmp_path: Path) -> None:
    """It finds the kind of each object, and a name in it."""
    text = kubectl("kustomize", BASE, home=tmp_path)
    words = ["create", "--server", discovery, "--dry-run=client", "--validate=false", "--filename=-"]
    names = kubectl(*words, "--output=name", home=tmp_path, given=text).split()
    expected = [f"{each['kind'].lower()}/{each['metadata']['name']}" for each in manifests()]
    assert sorted(re.sub(r"\.[a-z.0-9]+/", "/", name) for name in names) == sorted(
        [*expected, "configmap/gosudacon-fleet"]
    )


@needs("program:kubectl")
@pytest.mark.parametrize("name", ["install", "remove"])
def test_kubectl_knows_all_fields_of_a_daemonset(name: str, tmp_path: Path) -> None:
    """It reads the object into its own types, where a wrong value is an error, and writes what it knows."""
    words = ["set", "image", "--local", "--output=yaml", f"--filename={BASE / name}.yaml", "node=another"]
    text = (BASE / f"{name}.yaml").read_text().replace("image: gosudacon-node", "image: another")
    _contains(yaml.safe_load(kubectl(*words, home=tmp_path)), yaml.safe_load(text), name)


def _contains(found: object, expected: object, place: str) -> None:
    if isinstance(expected, dict):
        assert isinstance(found, dict)
        for key, value in expected.items():
            assert key in found, f"{place}.{key}"
            _contains(found[key], value, f"{place}.{key}")
    elif isinstance(expected, list):
        assert isinstance(found, list) and len(found) == len(expected), place
        for index, value in enumerate(expected):
            _contains(found[index], value, f"{place}[{index}]")
    else:
        assert found == expected, place


@needs("program:kubectl")
def test_kustomize_gives_the_fleets_configuration_one_name(tmp_path: Path) -> None:
    objects = [*yaml.safe_load_all(kubectl("kustomize", BASE, home=tmp_path))]
    (fleet,) = [each for each in objects if each["kind"] == "ConfigMap"]
    assert fleet["metadata"]["name"] == "gosudacon-fleet"
    assert fleet["data"] == {Settings.fleet.name: (BASE / "config.toml").read_text()}


@needs("program:kubectl")
def test_the_example(tmp_path: Path) -> None:
    if is_old():
        pytest.skip("needs kubectl>=1.21")
    objects = [*yaml.safe_load_all(kubectl("kustomize", EXAMPLE, home=tmp_path))]
    (fleet,) = [each for each in objects if each["kind"] == "ConfigMap"]
    assert fleet["data"][Settings.fleet.name] == (EXAMPLE / "config.toml").read_text()
    images = {
        each["spec"]["template"]["spec"]["containers"][0]["image"] for each in objects if each["kind"] == "DaemonSet"
    }
    assert images == {"registry.example.com/gosudacon-node:0.1.0"}


# What kubectl does not see.


@pytest.mark.parametrize("folder", [BASE, EXAMPLE], ids=["base", "example"])
def test_the_configurations_can_be_used(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text((folder / "config.toml").read_text())
    path.chmod(0o644)
    tomllib.loads(path.read_text())
    assert check.problem(str(path)) == ""


def test_the_builder_gets_no_caches() -> None:
    """docker and podman read the file next to the Containerfile before they copy the checkout."""
    ignored = (HERE / "Containerfile.dockerignore").read_text().splitlines()
    assert {".git", ".test-cache", "build", "dist", "**/__pycache__"} <= {*ignored}


def test_every_object_is_in_the_namespace() -> None:
    namespace = one("Namespace")["metadata"]["name"]
    kustomization = yaml.safe_load((BASE / "kustomization.yaml").read_text())
    assert kustomization["namespace"] == namespace
    for each in manifests():
        assert each["metadata"].get("namespace") == (None if each["kind"] in UNSCOPED else namespace)
        assert each["apiVersion"] in KINDS and each["kind"] in KINDS[each["apiVersion"]]


def test_the_docs_name_what_there_is() -> None:
    text = (CHECKOUT / "docs/kubernetes.md").read_text()
    for each in manifests():
        assert f"`{each['metadata']['name']}`" in text and each["kind"] in text
    for name in ("GOSUDACON_UNIT", "GOSUDACON_CONTAINERD_CONFIG", places.LABEL, places.STATE, places.TROUBLE):
        assert name in text


def test_the_runtime_class_is_for_what_the_program_makes() -> None:
    assert one("RuntimeClass") == {
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": {"name": "gosudacon"},
        "handler": places.HANDLER,
        "scheduling": {"nodeSelector": {places.LABEL: places.READY}},
    }


def test_the_account_may_patch_nodes_and_nothing_else() -> None:
    account, role, binding = one("ServiceAccount"), one("ClusterRole"), one("ClusterRoleBinding")
    assert role["rules"] == [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["patch"]}]
    assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) == ("ClusterRole", role["metadata"]["name"])
    (subject,) = binding["subjects"]
    assert subject["kind"] == "ServiceAccount"
    for key in ("name", "namespace"):
        assert subject[key] == account["metadata"][key]
    for name in PODS:
        assert pod(name)["serviceAccountName"] == account["metadata"]["name"]


@pytest.mark.parametrize("name", PODS)
def test_a_daemonset_finds_its_pods_and_no_other_ones(name: str) -> None:
    found = one("DaemonSet", name)
    labels = found["spec"]["template"]["metadata"]["labels"]
    assert found["spec"]["selector"]["matchLabels"] == labels == found["metadata"]["labels"]
    assert labels["app.kubernetes.io/component"] == name.removeprefix("gosudacon-")


def test_each_node_has_one_of_both() -> None:
    def terms(name: str) -> list[Manifest]:
        affinity = pod(name)["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        (term,) = affinity["nodeSelectorTerms"]
        found: list[Manifest] = term["matchExpressions"]
        return found

    (system, install), (same, remove) = map(terms, PODS)
    assert system == same
    assert install == {**remove, "operator": "NotIn"}
    assert (remove["key"], remove["operator"]) == ("gosudacon.io/install", "In")
    assert remove["key"].partition("/")[0] == places.LABEL.partition("/")[0]


@pytest.mark.parametrize("name", PODS)
def test_the_pod_is_as_the_program_expects(name: str) -> None:
    found = pod(name)
    (container,) = found["containers"]
    assert container["args"] == [name.removeprefix("gosudacon-")]
    program = f"{places.PREFIX}/{places.CURRENT}/bin/{places.PROGRAM}"
    assert container["readinessProbe"]["exec"]["command"] == [program, "ready"]
    assert json.dumps([program]) in (HERE / "Containerfile").read_text()
    assert [each["name"] for each in container["env"] if "valueFrom" in each] == ["NODE_NAME"]
    mounted = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    expected = {"node": "/node", "fleet": str(Settings.fleet.parent), "status": str(Settings.status.parent)}
    if name == "gosudacon-remove":
        del expected["fleet"]
    assert mounted == expected
    assert {each["name"] for each in found["volumes"]} == set(mounted)
    assert expected["node"] == Settings.root


@pytest.mark.parametrize("name", PODS)
def test_the_pod_may_no_more_than_it_must(name: str) -> None:
    found = pod(name)
    assert not {"hostPID", "hostNetwork", "hostIPC"} & set(found)
    (container,) = found["containers"]
    context = container["securityContext"]
    assert (context["privileged"], context["allowPrivilegeEscalation"]) == (False, False)
    assert context["readOnlyRootFilesystem"] is True
    assert context["capabilities"] == {"drop": ["ALL"], "add": ["SYS_CHROOT", "CHOWN", "DAC_OVERRIDE", "FOWNER"]}
    assert set(container["resources"]) == {"requests", "limits"}


def test_the_pods_differ_in_what_they_do_alone() -> None:
    install, remove = map(pod, PODS)
    for each in (install, remove):
        (container,) = each["containers"]
        container.pop("args")
        for place in (container["volumeMounts"], each["volumes"]):
            place[:] = [entry for entry in place if entry["name"] != "fleet"]
        each.pop("affinity")
    assert install == remove
