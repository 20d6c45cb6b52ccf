"""The built-in stages, each registered through pluggy."""
