"""The launcher, a static C program that starts the interpreter sealed; the seal; what `install` writes.

May use: `base` and `linux`.
Start with `launcher.c` (`kernel.h` has numbers and system calls) and `seal`; for `install`, with `archive`.
"""
