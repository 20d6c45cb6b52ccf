"""Compares gosudacon with runc, crun and the bare interpreter; see docs/bench.md.

May use: the standard library and rich; it runs the programs and imports none of their modules.
Start with `__main__`.
"""
