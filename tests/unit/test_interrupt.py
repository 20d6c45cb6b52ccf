"""Signals as an exception: once, and never on the way back."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from gosudacon.base import interrupt
from gosudacon.container.state import Store
from gosudacon.linux import sched
from tests.support.children import in_child


def armed(body: Callable[[], object]) -> None:
    """Run ``body`` in a process where `arm` was called."""

    def child() -> None:
        interrupt.arm()
        body()

    in_child(child)


@pytest.mark.parametrize("number", interrupt.SIGNALS)
def test_a_signal_raises_and_holds_back_the_next(number: int) -> None:
    def body() -> None:
        with pytest.raises(interrupt.Interrupted, match=interrupt.SIGNALS[number]):
            os.kill(os.getpid(), number)
        for each in interrupt.SIGNALS:
            os.kill(os.getpid(), each)
        assert signal.sigpending() == set(interrupt.SIGNALS)

    armed(body)


def test_one_that_got_lost_is_raised_between_steps() -> None:
    """In a destructor, say, where Python goes on after an exception."""

    def body() -> None:
        interrupt.check()
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except BaseException:  # noqa: BLE001 - as Python does it there
            pass
        with pytest.raises(interrupt.Interrupted):
            interrupt.check()

    armed(body)


def test_signal_before_the_handler() -> None:
    """What came before there was a handler is raised then."""

    def body() -> None:
        interrupt.defer()
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(interrupt.Interrupted):
            interrupt.arm()

    in_child(body)


def test_an_ignored_signal_stays_ignored() -> None:
    def body() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        interrupt.arm()
        os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN

    in_child(body)


def test_limit_on_descriptors() -> None:
    """The limit on descriptors is raised as far as it may be."""
    import resource

    def body() -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (10, hard))
        sched.allow_descriptors(1024)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= min(hard, 1024)
        sched.allow_descriptors(5)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= min(hard, 1024)

    in_child(body)


def test_state_directory_cannot_be_opened(tmp_path: os.PathLike[str]) -> None:
    """A state directory that cannot be opened is not left."""
    store = Store(os.fspath(tmp_path), "a")

    def fail() -> None:
        raise OSError(24, "too many open files")

    store._open = fail  # type: ignore[method-assign]
    with pytest.raises(OSError, match="too many open files"):
        store.create()
    assert os.listdir(tmp_path) == []


def test_state_json_goes_last(tmp_path: os.PathLike[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Until everything else is gone, the next delete knows what there was."""

    store = Store(os.fspath(tmp_path), "a")
    store.create()
    for name in ("config.json", "state.json", "start.sock", "x"):
        store.write(name, b"")
    order: list[str] = []
    unlink = os.unlink

    def spy(name: str, *, dir_fd: int) -> None:
        order.append(name)
        unlink(name, dir_fd=dir_fd)

    monkeypatch.setattr("gosudacon.container.state.posix.unlink", spy)
    store.remove()
    assert order[-1] == "state.json"
    assert len(order) == 4
