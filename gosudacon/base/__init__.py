"""What every layer stands on: errors, JSON, and the small `os` of the hot path.

Uses nothing of ours. Start with `errors`.
"""
