"""A stage that replaces another, in the plan of a whole container. No root, no container."""

from __future__ import annotations

import gosudacon_site_hostname as site_hostname
import pytest

from gosudacon.api import ConfigError
from gosudacon.testing.planning import Planner

IN_PLACE = {"replace": {"namespaces": "site-hostname"}}


def test_the_name_is_in_the_domain(oci_plan: Planner) -> None:
    config = {**IN_PLACE, "stage": {"site-hostname": {"domain": "example.org"}}}
    steps = oci_plan(site_hostname, {"hostname": "web"}, config=config).of_stage("namespaces")
    assert any("web.example.org" in step.describe() for step in steps)


def test_it_needs_a_domain(oci_plan: Planner) -> None:
    with pytest.raises(ConfigError, match="needs a domain"):
        oci_plan(site_hostname, config=IN_PLACE)


def test_it_is_for_the_place_of_another(oci_plan: Planner) -> None:
    with pytest.raises(ConfigError, match="replaces no stage"):
        oci_plan(site_hostname)
