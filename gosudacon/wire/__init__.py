"""What is spoken with other programs: D-Bus with systemd, Protocol Buffers with CRIU.

Uses `base` and `linux`. Start with `systemd`.
"""
