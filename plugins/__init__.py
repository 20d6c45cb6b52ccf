"""Plugins that ship with gosudacon and are off until enabled.

May use: `api`, `base`, and libraries of their own.
Start with `seccomp_stub`, the smallest one, and docs/plugins.md.
"""
