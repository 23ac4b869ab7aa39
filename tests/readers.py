"""Readers that do in a child process what a library might do on a hostile file."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import IO, Any

import numpy as np

from vggquant.errors import SourceError
from vggquant.isolation.child import limit_anew
from vggquant.isolation.messages import Answer, Limits


def sound(data: bytes, **arguments: Any) -> Answer:
    numbers = np.frombuffer(data, np.uint8)
    halves = (numbers / 2).astype(">f4")
    return Answer(
        {"pid": os.getpid(), **arguments}, {"reversed": numbers[::-1], "halves": halves, "sum": np.array(halves.sum())}
    )


def looks(file: IO[bytes]) -> Answer:
    """Reads the end, the whole and nothing."""
    size = file.seek(0, os.SEEK_END)
    file.seek(-5, os.SEEK_CUR)
    end = file.read()
    assert file.read(1) == b""
    file.seek(0)
    return Answer({"size": size, "end": end.decode()}, {"whole": np.frombuffer(file.read(), np.uint8)})


def refuses(data: bytes) -> Answer:
    raise SourceError("something else", data[:5], "get it again", tensor="x")


def loops(data: bytes) -> Answer:
    while True:
        pass


def sleeps(data: bytes) -> Answer:
    time.sleep(1000)
    raise AssertionError


def crashes(data: bytes) -> Answer:
    os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError


def hoards(data: bytes) -> Answer:
    return Answer({}, {"ones": np.ones(2**29)})


def needs_memory(data: bytes, memory: int) -> Answer:
    limit_anew(Limits(memory, 1))
    return Answer({}, {"ones": np.ones(2**24, np.uint8)})


def loops_anew(data: bytes) -> Answer:
    while True:  # each time with as much time, but from when the reading began
        limit_anew(Limits(2**28, 0.3))


def tells_limits(data: bytes) -> Answer:
    import resource

    return Answer({"memory": resource.getrlimit(resource.RLIMIT_AS)})


def hands_back_too_much(data: bytes) -> Answer:
    return Answer({}, {"large": np.zeros(10**7, np.uint8)})


def hands_back_integers(data: bytes) -> Answer:
    return Answer({}, {"whole": np.zeros(3, np.int64)})


def talks(data: bytes) -> Answer:
    return Answer({"text": "é" * 2**20})  # six bytes each in JSON


def prints(data: bytes) -> Answer:
    print("a line of a library's own")
    os.write(1, b"another")
    print("a third", file=sys.stderr)
    return Answer({})


def forgets_itself(data: bytes) -> Answer:
    raise RuntimeError("a fault in the reader itself")
