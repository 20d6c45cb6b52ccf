"""What the plugins ``network`` and ``cni`` have in common, and no plugin: published ports, files about names.

May use: `api`, `base`.
Start with `ports`, then `files` and `resolver`.
"""
