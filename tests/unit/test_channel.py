"""What one side of the channel still hears from the other when that is gone."""

from __future__ import annotations

from gosudacon.base.errors import StepError
from gosudacon.linux import process
from gosudacon.pipeline.executor import DONE, FAILED, Channel


def test_reason_survives_unread_messages() -> None:
    """A reason survives that its sender left messages unread."""
    mine, theirs = map(Channel, process.socketpair())
    mine.send(DONE, b"1")  # never read
    theirs.send_error(StepError("the reason"))
    theirs.close()
    kind, payload = mine.receive()
    assert kind == FAILED and b"the reason" in payload
    assert mine.receive() == (b"", b"")
    mine.close()
