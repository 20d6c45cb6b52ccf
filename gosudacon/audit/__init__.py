"""Whether a running container, of whatever runtime, still is what its configuration asked for.

May use: `container` and all below it; no stage and no plugin.
Start with `audit.audit`, then `plan`, `subject`, `inside` and the modules of readers.
"""
