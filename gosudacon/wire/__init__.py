"""Protocols of other programs: D-Bus with systemd, Protocol Buffers, with CRIU and containerd.

May use: `base` and `linux`.
Start with `systemd`.
"""
