"""The hook in the plan of a whole container, with the fixtures of gosudacon.testing. No root, no container."""

from __future__ import annotations

import gosudacon_gpu as gpu

from gosudacon.testing.planning import Planner

SETTINGS = {"major": 195, "minors": [0], "libraries": "/usr/lib/gpu"}


def test_a_container_that_does_not_ask(oci_plan: Planner) -> None:
    assert oci_plan(gpu, {"process": {"env": ["A=1"]}}, settings=SETTINGS).edits is None


def test_a_container_that_asks(oci_plan: Planner) -> None:
    config = oci_plan.edited(gpu, {"annotations": {"org.example.gpu": "true"}}, settings=SETTINGS)
    assert config["process"]["env"][-1] == "GPU_LIBRARIES=/opt/gpu"
    assert config["mounts"][-1]["options"] == ["rbind", "ro", "nosuid", "nodev"]
    assert config["linux"]["devices"] == [{"path": "/dev/gpu0", "type": "c", "major": 195, "minor": 0}]


def test_an_image_that_asks(oci_plan: Planner) -> None:
    config = oci_plan.edited(gpu, {"process": {"env": ["GPU=wanted"]}}, settings=SETTINGS)
    assert config["process"]["env"] == ["GPU=wanted", "GPU_LIBRARIES=/opt/gpu"]
