"""Protocols of other programs: D-Bus with systemd, Protocol Buffers with CRIU, ttrpc with containerd.

May use: `base` and `linux`.
Start with `systemd`.
"""
