"""A banner for every container: a file that its processes can read, and a note on the host that it exists."""

from __future__ import annotations

import os

from gosudacon.api import (
    MOUNT,
    PREPARE,
    START,
    Context,
    Host,
    SettingsError,
    Spec,
    Stage,
    Step,
    hookimpl,
    mkdir_in_root,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from gosudacon.api import Plan

NEW = ".banner.new"
ANNOUNCE = "org.example.banner.announce"


class NoteContainer(Step):
    """Leave a file named like the container in a directory of the host, for as long as the container exists."""

    phase = PREPARE
    lasts = True
    directory: str
    id: str
    text: str

    def describe(self) -> str:
        return f"note {self.id} in {self.directory}"

    def run(self, context: Context) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(f"{self.directory}/{self.id}", flags, 0o644)
        try:
            os.write(fd, self.text.encode())
        finally:
            os.close(fd)

    def undo(self, context: Context) -> None:
        _remove(f"{self.directory}/{self.id}")


class WriteBanner(Step):
    """Write /run/banner in the container's root, whatever the image has there."""

    phase = MOUNT
    text: str

    def describe(self) -> str:
        return "write /run/banner"

    def run(self, context: Context) -> None:
        directory = mkdir_in_root(context.root, "/run")
        try:
            self._write(directory)
        finally:
            os.close(directory)

    def _write(self, directory: int) -> None:
        """Make a new file and rename it: what the image has at either name is never opened, let alone followed."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        _remove(NEW, directory)  # of a create that was killed here
        fd = os.open(NEW, flags, 0o644, dir_fd=directory)
        try:
            os.write(fd, self.text.encode())
        finally:
            os.close(fd)
        os.rename(NEW, "banner", src_dir_fd=directory, dst_dir_fd=directory)


class Announce(Step):
    """Print the banner before the container's process does anything."""

    phase = START
    rank = 5  # after waiting for `start`, before startContainer hooks
    text: str

    def describe(self) -> str:
        return "print the banner"

    def run(self, context: Context) -> None:
        os.write(1, self.text.encode())


class Banner(Stage):
    """Settings: ``text``, and ``directory`` for the notes (none are left without it)."""

    name = "banner"
    after = ("rootfs-mount",)

    def plan(self, spec: Spec, host: Host) -> Iterator[Step]:
        """Raises `SettingsError` if a setting is not a string."""
        text = self.settings.get("text", "made by gosudacon\n")
        directory = self.settings.get("directory", "")
        if not isinstance(text, str) or not isinstance(directory, str):
            raise SettingsError("[stage.banner] takes strings: text, directory")
        if directory:
            yield NoteContainer(directory=directory, id=spec.id, text=text)
        yield WriteBanner(text=text)


def _remove(path: str, directory: int | None = None) -> None:
    try:
        os.unlink(path, dir_fd=directory)
    except FileNotFoundError:
        return


@hookimpl
def gosudacon_stages() -> list[Stage]:
    """Contribute the stage."""
    return [Banner()]


@hookimpl
def gosudacon_amend_plan(plan: Plan, spec: Spec) -> None:
    """Announce the banner where the bundle asks for it."""
    if (spec.config.get("annotations") or {}).get(ANNOUNCE) == "true":
        plan.steps += [Announce(text=step.text) for step in plan.steps if isinstance(step, WriteBanner)]
