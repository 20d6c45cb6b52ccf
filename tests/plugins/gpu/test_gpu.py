"""The hook alone: a function of a bundle and settings. No root, no container."""

from __future__ import annotations

from typing import Any

from gosudacon_gpu import gosudacon_edit_spec

from gosudacon.api import Spec

SETTINGS = {"major": 195, "minors": [0], "libraries": "/usr/lib/gpu"}


def edited(config: Any) -> Any:
    edit = gosudacon_edit_spec(Spec(config, "web", "/srv/web"), SETTINGS)
    return edit and edit.applied(config)


def test_a_container_that_does_not_ask() -> None:
    assert edited({"process": {"env": ["A=1"]}}) is None


def test_a_container_that_asks() -> None:
    config = edited({"annotations": {"org.example.gpu": "true"}})
    assert config["process"]["env"] == ["GPU_LIBRARIES=/opt/gpu"]
    assert config["mounts"][0]["options"] == ["rbind", "ro", "nosuid", "nodev"]
    assert config["linux"]["devices"] == [{"path": "/dev/gpu0", "type": "c", "major": 195, "minor": 0}]


def test_an_image_that_asks() -> None:
    config = edited({"process": {"env": ["GPU=wanted"]}})
    assert config["process"]["env"] == ["GPU=wanted", "GPU_LIBRARIES=/opt/gpu"]
