"""gosudacon: an OCI container runtime in which a container is a plan.

May use: see the table of folders in docs/architecture.md; this file imports nothing.
Start with `api`, then `pipeline.step`; the map of docs/architecture.md leads from a question to a file.
"""

__version__ = "0.1.0"
