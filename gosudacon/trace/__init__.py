"""Traces: what a command did and when, as files that other tools read and as a view for the terminal.

May use: `pipeline`, `base`.
Start with `model`: `record` makes a `Trace` from what `pipeline.recorder` has noted, all formats are made from it.
"""
