"""The fast gear: is this what the specification allows, yes or no.

The answer comes from `_validator`, which the build compiles from the schemas (`compiler.py`). Without it, in
a checkout in which it is not compiled, the slow gear (`problems.py`) answers, the same but late.
Nothing here looks whether `_validator` is of the same age as the schemas: installed it cannot be of another,
and in a checkout a test does (tests/unit/test_schema_gears.py).
"""

from __future__ import annotations

try:
    from gosudacon.schema._validator import CHECKS
except ImportError:
    CHECKS = {}


def accepts(config: object, kind: str = "config") -> bool:
    """Whether `config`, a parsed JSON text, is a valid `kind`: config, process, state or features.

    Null members of objects count as absent and unknown ones are ignored, as in runc.
    `gosudacon.schema.problems` says what is wrong with what is rejected here. Never changes `config`.
    Raises ValueError for an unknown `kind`.
    """
    check = CHECKS.get(kind)
    if check is not None:
        return check(config)
    from gosudacon.schema import problems

    return problems.accepts(config, kind)
