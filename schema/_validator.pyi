# What the generated module holds (see compiler.py); it is not there in a fresh checkout.
from collections.abc import Callable

from gosudacon.schema.compiler import Schema

SOURCE: str
CHECKS: dict[str, Callable[[object], bool]]
SHAPES: dict[str, Schema]
