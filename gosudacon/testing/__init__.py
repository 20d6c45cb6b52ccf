"""Fixtures with which a plugin's own tests are as strong as gosudacon's; a plugin of pytest.

May use: everything, and pytest; the program never imports this package.
Start with `plugin`, the fixtures; docs/plugin-testing.md shows them at work.

pytest finds it where gosudacon is installed (entry point ``pytest11``); from a checkout, a conftest.py says
``pytest_plugins = ["gosudacon.testing.plugin"]``.

=================  ===================================================================================================
fixture            what it is
=================  ===================================================================================================
``oci_spec``       ``oci_spec({"hostname": "x"}, ...)``: a `Spec`, complete and valid, with these changes
``oci_host``       ``oci_host(kernel=(6, 1), ...)``: a `Host`, the same on every machine
``oci_plan``       ``oci_plan(module, ...)``: the whole plan, made twice and watched: planning must be pure
``oci_root``       a scratch root filesystem, and a `Context` for steps to run in; what is next to it must stay as it is
``oci_lasting``    ``oci_lasting(step, context, directory)``: undo removes what run made, whenever and however often
``oci_container``  ``oci_container(module, ...)``: real containers with the plugin, on the host's /usr; needs root
``oci_faults``     ``oci_faults(module, ...)``: create fails at every step, by an error and by kill -9; nothing is left
=================  ===================================================================================================
"""
