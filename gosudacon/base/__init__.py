"""What every layer uses: errors, JSON, the small `os` of the hot path, lists of numbers, names of files.

May use: the standard library alone.
Start with `errors`.
"""
