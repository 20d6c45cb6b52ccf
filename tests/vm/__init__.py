"""A throw-away machine in QEMU: a plain cgroup v2 hierarchy, systemd, AppArmor, idmapped mounts."""
