"""The built-in stages, each registered through pluggy.

May use: `api`, `linux`, `wire`, `base`, `schema`; not each other.
Start with `pivot_root`, a whole stage in one file, then `handoff`.
"""
