"""Calling a plug-in: environment, configuration on standard input, result or error on standard output (SPEC.md)."""

from __future__ import annotations

import time

from gosudacon.api import Error, Program
from gosudacon.base import jsonio, posix
from gosudacon.base.errors import reason
from gosudacon.plugins.cni import files, results
from gosudacon.plugins.cni.document import VERSIONS, can

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from gosudacon.api import Ended
    from gosudacon.plugins.cni.record import Attachment, Header

ADD, DEL, VERSION = "ADD", "DEL", "VERSION"
# Codes of errors (SPEC.md, "Error").
INCOMPATIBLE, UNKNOWN_CONTAINER, TRY_AGAIN = 1, 3, 11
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # for iptables(8) and the like
_MOST = 1 << 20  # bytes of a result
_SHOWN = 500  # characters of what a plug-in has written to standard error
_PAUSES = (0.1, 0.2, 0.4, 0.8, 1.6)  # seconds, before each further try
_GIVES_PREVIOUS = VERSIONS[VERSIONS.index("0.4.0") :]  # to DEL


class PluginError(Error):
    """What a plug-in has answered: ``code`` of the specification, 0 if it has not answered as that demands.

    ``answer`` are its words, empty if it was killed or its time was up.
    """

    code = 0
    answer = ""


class Call:
    """A call of one plug-in of an attachment. ``namespace`` is CNI_NETNS; ``lock`` is inherited by the plug-in."""

    def __init__(self, header: Header, attachment: Attachment, plugin: int, namespace: str, lock: int) -> None:
        self._header = header
        self._attachment = attachment
        self._config = attachment["plugins"][plugin]
        self._namespace = namespace
        self._lock = lock

    @property
    def name(self) -> str:
        """The network and the plug-in, for messages."""
        return f"{self._attachment['name']}/{self._config['type']}"

    def add(self, previous: dict[str, object] | None) -> dict[str, object]:
        """ADD, with the result of the plug-in before; returns this one's. Raises `Error`."""
        ended = self._patiently(ADD, previous)
        try:
            return results.parsed(ended.stdout, self._attachment["version"])
        except (ValueError, RecursionError) as error:
            raise self._error(ADD, f"its result cannot be used: {error}") from None

    def delete(self, last: dict[str, object] | None) -> None:
        """DEL, with the last result of the attachment. That the plug-in does not know the container is fine.

        Raises `Error`.
        """
        try:
            self._patiently(DEL, last if self._attachment["version"] in _GIVES_PREVIOUS else None)
        except PluginError as error:
            if error.code != UNKNOWN_CONTAINER:
                raise

    def versions(self) -> list[str]:
        """VERSION: those that the plug-in supports. Raises `Error`."""
        text = jsonio.dumps({"cniVersion": self._attachment["version"]}).encode()
        ended = self._ended(VERSION, text)
        try:
            answer = jsonio.loads(ended.stdout)
        except ValueError:
            answer = None
        found = answer.get("supportedVersions") if isinstance(answer, dict) else None
        if not isinstance(found, list):
            raise self._error(VERSION, "it does not say which versions it supports")
        return [each for each in found if isinstance(each, str)]

    def _patiently(self, command: str, previous: dict[str, object] | None) -> Ended:
        """Once more, after a pause, where the plug-in asks for that."""
        text = jsonio.dumps(self._configuration(previous)).encode()
        for pause in _PAUSES:
            try:
                return self._ended(command, text)
            except PluginError as error:
                if error.code != TRY_AGAIN:
                    raise
            time.sleep(pause)
        return self._ended(command, text)

    def _configuration(self, previous: dict[str, object] | None) -> dict[str, object]:
        runtime = {key: value for key, value in self._attachment["runtime"].items() if can(self._config, key)}
        more = {"runtimeConfig": runtime, "prevResult": previous}
        of_list = {"name": self._attachment["name"], "cniVersion": self._attachment["version"]}
        return {**self._config, **of_list, **{key: value for key, value in more.items() if value}}

    def _ended(self, command: str, text: bytes) -> Ended:
        kind = str(self._config["type"])
        path = files.find(kind, self._header["bin_dirs"])
        program = Program(path, [path], self._environment(command), "/")
        program.keep, program.lent = _MOST + 1, self._lock
        try:
            ended = program.run(text, self._header["timeout"])
        except OSError as error:
            said = f"cannot be executed: {path}: {reason(error)}"
            raise self._error(command, said, said) from error
        if ended.status is None:
            raise self._error(command, f"did not end within {self._header['timeout']} seconds and was killed")
        if len(ended.stdout) > _MOST:
            raise self._error(command, "wrote more than 1 MiB")
        if ended.status != 0:
            raise self._answered(command, ended)
        return ended

    def _environment(self, command: str) -> Mapping[bytes, bytes]:
        """This, and nothing of the caller's."""
        values = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": self._header["id"],
            "CNI_NETNS": self._namespace,
            "CNI_IFNAME": self._attachment["interface"],
            "CNI_PATH": ":".join(self._header["bin_dirs"]),
            "PATH": _PATH,
        }
        if args := self._header["args"]:
            values["CNI_ARGS"] = ";".join(f"{name}={value}" for name, value in args.items())
        return {name.encode(): value.encode(errors="surrogateescape") for name, value in values.items()}

    def _answered(self, command: str, ended: Ended) -> PluginError:
        """The error in an answer; where there is none, how the plug-in ended and what it wrote to standard error."""
        try:
            answer = jsonio.loads(ended.stdout)
        except ValueError:
            answer = None
        if not isinstance(answer, dict) or type(answer.get("code")) is not int:
            said = " ".join(ended.stderr.decode(errors="replace").split())[-_SHOWN:]
            text = ": ".join(filter(None, (ended.how(), said)))
            return self._error(command, text, text if posix.WIFEXITED(ended.status or 0) else "")
        words = [str(answer[key]) for key in ("msg", "details") if answer.get(key)]
        text = f"{'; '.join(words)} (code {answer['code']})".lstrip()
        error = self._error(command, text, text)
        error.code = answer["code"]
        return error

    def _error(self, command: str, text: str, answer: str = "") -> PluginError:
        error = PluginError(f"CNI {command} {self.name}: {text}")
        error.answer = answer
        return error


def common_version(calls: list[Call], versions: list[str]) -> str:
    """The first of ``versions`` that all plug-ins support. Raises `Error` if there is none."""
    supported = {call.name: call.versions() for call in calls}
    for version in versions:
        if all(version in found for found in supported.values()):
            return version
    told = "; ".join(f"{name} supports {', '.join(found)}" for name, found in supported.items())
    raise Error(f"the plug-ins have no version of {', '.join(versions)} in common: {told}")
