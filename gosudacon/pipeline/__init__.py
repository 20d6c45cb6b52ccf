"""Stages, steps, the plan and the executor.

May use: `wire`, `linux`, `base`, `schema`; no stage and no plugin by name.
Start with `step`, then `plan` and `executor`.
"""
