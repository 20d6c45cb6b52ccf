"""``gosudacon delete``."""

from __future__ import annotations

from gosudacon.cli.main import root_of
from gosudacon.container.delete import delete

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.cli.parse import Invocation


def run(invocation: Invocation) -> int:
    """Delete a container; failed poststop hooks are warnings, as runtime-spec runtime.md wants."""
    if invocation.options["regex"]:
        return _delete_matching(invocation)
    _delete(invocation, invocation.args[0])
    return 0


def _delete(invocation: Invocation, id: str) -> None:
    for warning in delete(root_of(invocation), id, invocation.options["force"], invocation):
        invocation.log.warning(warning.message)


def _delete_matching(invocation: Invocation) -> int:
    """Delete them all; one that cannot be deleted does not keep the others."""
    from gosudacon.base.errors import Error
    from gosudacon.container.matching import matching
    from gosudacon.container.state import AbsentError

    status = 0
    for id in matching(root_of(invocation), invocation.args[0]):
        try:
            _delete(invocation, id)
        except AbsentError:
            continue  # gone meanwhile
        except (Error, OSError) as error:
            invocation.log.error(error, f"{id}: ")
            status = 1
    return status
