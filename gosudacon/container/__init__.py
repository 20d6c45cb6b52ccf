"""Operations on containers: create, run, exec, restore and all other verbs; the state on disk.

May use: `pipeline`, `wire`, `linux`, `base`, `schema`, `launcher`; no stage and no plugin by name.
Start with `operation`, then `create` and `state`.
"""
