"""Output of ``ctr run``, none of it lost.

ctr before containerd 1.6.22 and 1.7.2 closes its ends of the container's pipes as soon as it hears of the exit, and
what is still in them is lost (containerd, pull request 8643: "don't close() io before cancel()").  So the containers
of these tests stay until the client has all of their output.
"""

from __future__ import annotations

import os
import select
import subprocess
import time

from tests.support.timing import seconds

_END = b"-end-of-output-\n"
_SCRIPT = "(\n{script}\n) </dev/null; status=$?; echo {end}; echo {end} >&2; read line; exit $status"


def patient(script: str) -> str:
    """A shell script that does what ``script`` does, and then waits for a line before it exits."""
    return _SCRIPT.format(script=script, end=_END.decode().strip())


def collect(words: list[str], limit: float = 60) -> tuple[int, bytes, bytes]:
    """Run a client whose container runs a ``patient`` script; its exit status and the two outputs.

    Raises TimeoutError after ``limit`` seconds (of an ordinary machine).
    """
    pipe = subprocess.PIPE
    client = subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, cwd="/")
    assert client.stdin and client.stdout and client.stderr
    outputs = {client.stdout.fileno(): bytearray(), client.stderr.fileno(): bytearray()}
    deadline = time.monotonic() + seconds(limit)
    open_ones, waiting = set(outputs), True
    try:
        while open_ones:
            ready = select.select(open_ones, [], [], max(0.0, deadline - time.monotonic()))[0]
            if not ready:
                raise TimeoutError(f"{' '.join(words)}: not done after {seconds(limit):g} s: {outputs}")
            for fd in ready:
                data = os.read(fd, 65536)
                outputs[fd] += data
                if not data:
                    open_ones.remove(fd)
            if waiting and all(_END in text[-4096:] for text in outputs.values()):
                waiting = False
                os.write(client.stdin.fileno(), b"\n")
        status = client.wait(seconds(limit))
    finally:
        client.kill()
        client.wait()
        for stream in (client.stdin, client.stdout, client.stderr):
            stream.close()
    out, err = (bytes(text).replace(_END, b"") for text in outputs.values())
    return status, out, err
