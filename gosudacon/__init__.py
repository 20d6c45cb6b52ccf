"""gosudacon: an OCI container runtime in which a container is a plan."""

__version__ = "0.1.0"
