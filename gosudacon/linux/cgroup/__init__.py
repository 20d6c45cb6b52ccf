"""Cgroups as the kernel shows them: the hierarchy of directories, the files in them, the processes, statistics.

Uses `base`. Start with `hierarchy`, which is all that `delete` needs.
"""
