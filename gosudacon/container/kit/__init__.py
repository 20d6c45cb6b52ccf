"""What the authors and users of plugins need in addition to containers: list, enable, check and create them.

May use: `container`, `pipeline` and all below them; nothing here is on the path of a container.
Start with `plugins` (what is installed; `cost` measures imports), `enabling` (edits config.toml by `toml_list`),
`skeleton` (writes a new package), `checks` (plans bundles with a plugin, watched by `purity`).
"""
