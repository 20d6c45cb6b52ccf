"""JSON Schemas of config.json, process, state and features, and their validators.

May use: `base`.
Start with `verdict`, the fast validator; `problems` explains, `compiler` makes the fast one.
"""
