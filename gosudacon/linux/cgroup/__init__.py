"""Cgroups as the kernel shows them: the hierarchy of directories, the files in them, processes, statistics.

May use: `base` and `linux`.
Start with `hierarchy`, which is all that `delete` needs, then `files`.
"""
