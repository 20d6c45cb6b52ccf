"""``gosudacon doctor``: what this host lacks for containers, and what to do about it; nothing is changed.

May use: `container`, `pipeline`, `linux`, `launcher`, `base`.
Start with `report` (the rows, in their order); `kernel`, `cgroups`, `user`, `programs` and `engines` find them.
"""
