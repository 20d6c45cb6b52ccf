"""The command line: option tables, one module per command, output formats.

May use: `container`, `base`, `launcher`; not `pipeline`, `linux`, `wire` or `schema`.
Start with `main`, then `options` and `run`.
"""
