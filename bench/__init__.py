"""Measures gosudacon beside runc, crun and the bare interpreter; see docs/bench.md."""
