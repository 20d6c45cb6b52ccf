"""What every layer uses: errors, JSON, and the small `os` of the hot path.

May use: the standard library alone.
Start with `errors`.
"""
