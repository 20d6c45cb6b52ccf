"""The launcher, a static C program that starts the interpreter sealed; the seal; what `install` writes.

May use: `base` and `linux`.
Start with `launcher.c` and `seal`; for `install`, with `archive`.
"""
