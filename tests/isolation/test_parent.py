"""A child process reads; whatever happens to it, the parent gets an answer or one error, and the next file is read."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import LINUX, POSIX
from vggquant.errors import SourceError, StorageError
from vggquant.isolation import parent
from vggquant.isolation.child import limit_anew
from vggquant.isolation.messages import Answer, Limits
from vggquant.isolation.parent import OverrunError, read_isolated

LIMITS = Limits(memory=2**28, seconds=0.5)


ROOT = Path(__file__).parents[2]


def ask(reader: str, data: bytes = b"12345", limits: Limits = LIMITS, **arguments: object) -> Answer:
    return read_isolated(f"tests.readers:{reader}", data, arguments, limits)


def test_values_and_arrays_come_back_and_the_child_is_kept() -> None:
    first, second = ask("sound", name="x"), ask("sound", b"")
    assert first.values["name"] == "x"
    assert first.values["pid"] == second.values["pid"] != os.getpid()
    assert first.arrays["reversed"].tobytes() == b"54321"
    assert np.array_equal(first.arrays["halves"], np.frombuffer(b"12345", np.uint8) / 2)
    assert first.arrays["halves"].dtype == np.dtype(">f4")
    assert first.arrays["sum"].shape == ()
    assert second.arrays["reversed"].size == 0


@pytest.mark.parametrize("size", [5, 65_536, 300_000])
def test_a_file_may_be_read_in_pieces(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytes(range(97, 102)) * (size // 5)
    for executable in (sys.executable, ""):
        monkeypatch.setattr(sys, "executable", executable)
        answer = read_isolated("tests.readers:looks", data, {}, LIMITS, lazily=True)
        assert answer.values == {"size": len(data), "end": "abcde"}
        assert answer.arrays["whole"].tobytes() == data
    monkeypatch.undo()
    assert ask("sound").arrays["reversed"].tobytes() == b"54321"


def test_a_refusal_is_raised_here() -> None:
    child = ask("sound").values["pid"]
    with pytest.raises(SourceError, match=r"^x: expected something else, got b'12345'; get it again$"):
        ask("refuses")
    assert ask("sound").values["pid"] == child


@pytest.mark.parametrize(
    ("reader", "match"),
    [
        ("loops", "too long"),
        ("crashes", "crashes its reader"),
        pytest.param("hoards", "too much memory", marks=LINUX),
        ("forgets_itself", "crashes its reader"),
        ("hands_back_too_much", "too much memory"),
        ("hands_back_integers", "answer nonsense"),
        ("talks", "answer nonsense"),
        ("no_such_reader", "crashes its reader"),
    ],
)
def test_what_goes_wrong_is_one_error_and_the_next_file_is_read(reader: str, match: str) -> None:
    with pytest.raises(OverrunError, match=match):
        ask(reader, limits=Limits(2**22, 0.5) if reader in ("hands_back_too_much", "talks") else LIMITS)
    assert ask("sound").arrays["reversed"].tobytes() == b"54321"


def test_a_child_that_waits_is_ended_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parent, "WALL", 1.0)
    began = time.monotonic()
    with pytest.raises(OverrunError, match="too long"):
        ask("sleeps")
    assert time.monotonic() - began < 10


def test_a_child_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(parent, "_CHILDREN", {})
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", no_more)
        with pytest.raises(
            StorageError, match="a child process to read in, got Resource temporarily unavailable; free"
        ):
            ask("sound")
    with monkeypatch.context() as patch:
        patch.setattr(parent, "_SCRIPT", "import sys; sys.exit(1)")
        with pytest.raises(StorageError, match="a child process to read in, got one that does not start; free"):
            ask("sound")
    assert ask("sound").arrays["reversed"].tobytes() == b"54321"


def test_without_a_thread_for_the_deadline_files_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Timer, "start", no_more)
    assert ask("sound").arrays["reversed"].tobytes() == b"54321"
    with pytest.raises(OverrunError, match="too long"):
        ask("loops")


@LINUX
def test_a_reader_may_set_its_limits_anew() -> None:
    assert ask("needs_memory", memory=2**26).arrays["ones"].size == 2**24
    with pytest.raises(OverrunError, match="too much memory"):
        ask("needs_memory", memory=2**20)
    began = time.process_time()
    with pytest.raises(OverrunError, match="too long"):
        ask("loops_anew", limits=Limits(2**28, 30))
    assert time.process_time() - began < 5


def test_outside_of_a_child_limits_are_not_set_anew() -> None:
    limit_anew(Limits(0, 0))
    assert np.ones(2**20).all()


def test_what_libraries_print_is_not_seen(capfd: pytest.CaptureFixture[str]) -> None:
    ask("prints")
    assert capfd.readouterr() == ("", "")


def test_threads_take_turns() -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: ask("sound", bytes([number])), range(40)))
    assert [answer.arrays["reversed"].tobytes() for answer in answers] == [bytes([number]) for number in range(40)]


@POSIX
def test_a_killed_child_is_replaced() -> None:
    os.kill(ask("sound").values["pid"], signal.SIGKILL)
    time.sleep(0.2)
    assert ask("sound").arrays["reversed"].tobytes() == b"54321"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_has_a_child_of_its_own() -> None:
    script = """
import os
from tests.isolation.test_parent import ask
ours = ask("sound").values["pid"]
if os.fork() == 0:
    os._exit(0 if ask("sound").values["pid"] != ours else 1)
_, status = os.wait()
assert status == 0
assert ask("sound").values["pid"] == ours
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)


@POSIX
def test_ctrl_c_ends_the_child() -> None:
    child = ask("sound").values["pid"]
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        ask("sleeps", limits=Limits(2**28, 30))
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_without_an_interpreter_the_reading_happens_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "")
    assert ask("sound").values["pid"] == os.getpid()


KILLED = """
import os, signal, threading
from tests.isolation.test_parent import Limits, ask
print(ask("sound").values["pid"], flush=True)
if os.fork():
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGKILL)).start()
    ask("loops", limits=Limits(2**28, 300))
signal.pause()  # holds the pipe to the child open
"""


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_a_busy_child_ends_with_a_parent_that_is_killed() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED], stdout=subprocess.PIPE, cwd=ROOT, start_new_session=True
    ) as killed:
        assert killed.stdout is not None
        child = int(killed.stdout.readline())
        assert killed.wait() == -signal.SIGKILL
        try:
            assert any(_gone(child) for _ in range(100))
        finally:
            os.killpg(killed.pid, signal.SIGKILL)  # the fork


def _gone(process: int) -> bool:
    time.sleep(0.1)
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    # an orphan may wait for ever for somebody to ask how it ended
    return ") Z " in Path(f"/proc/{process}/stat").read_text()


@LINUX
def test_a_limit_of_the_users_own_stays() -> None:
    script = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (2**34, 2**34))
from tests.isolation.test_parent import ask, refused
assert refused("hoards")
assert ask("tells_limits").values["memory"][1] == 2**34
assert ask("tells_limits").values["memory"][0] < 2**30
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)


def refused(reader: str) -> bool:
    """Whether a reading overruns its limit of memory."""
    try:
        ask(reader)
    except OverrunError as error:
        return "too much memory" in str(error)
    return False


def test_places_that_python_itself_passes_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parent, "_CHILDREN", {})
    monkeypatch.setattr(sys, "path", [*sys.path, Path("/tmp")])
    assert ask("sound").arrays["reversed"].tobytes() == b"54321"


@POSIX
def test_the_child_ends_with_its_parent() -> None:
    script = "from tests.isolation.test_parent import ask\nprint(ask('sound').values['pid'])"
    found = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert not found.stderr
    with pytest.raises(ProcessLookupError):
        os.kill(int(found.stdout), 0)
