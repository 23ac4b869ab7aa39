"""What the tests of the commands share: two small pictures, and a terminal."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with content.png and style.png, of noise."""
    rng = np.random.default_rng(0)
    for name, shape in (("content", (24, 32, 3)), ("style", (40, 20, 3))):
        Image.fromarray(rng.integers(0, 256, shape).astype(np.uint8)).save(tmp_path / f"{name}.png")
    return tmp_path


# the command line, with Ctrl-C as in a terminal, which a shell may have made to be ignored
START = """
import signal
from vggquant.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)
main()
"""


def on_a_terminal(*arguments: object, interrupt_at: bytes | None = None) -> tuple[int, bytes, bytes]:
    """Exit code, stdout and what a terminal shows of stderr; if wanted, interrupted once it shows some text."""
    pty = pytest.importorskip("pty", reason="needs the terminals of POSIX")
    leader, follower = pty.openpty()
    command = [sys.executable, "-c", START, *map(str, arguments)]
    process = subprocess.Popen(command, stderr=follower, stdout=subprocess.PIPE)
    os.close(follower)
    shown = b""
    with contextlib.suppress(OSError):  # how a terminal ends
        while piece := os.read(leader, 4096):
            shown += piece
            if interrupt_at is not None and interrupt_at in shown:
                process.send_signal(signal.SIGINT)
                interrupt_at = None
    os.close(leader)
    return process.wait(), process.communicate()[0], shown
