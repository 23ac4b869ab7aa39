"""The entry point: what ends the command line early."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import GOLDEN, POSIX
from vggquant.wording import INTERRUPTED

ROOT = os.path.dirname(os.path.dirname(__file__))

# sends a signal to itself when the command line is first asked to do something, in the midst of a study
IN_A_STUDY = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from vggquant.__main__ import main
from vggquant.comparison import study
def stop(*_):
    assert any(name.startswith("vggquant-") for name in os.listdir(os.environ["TMPDIR"]))
    os.kill(os.getpid(), signal.Signals[os.environ["WITH"]])
study.named_pictures = stop
main()
"""


def test_an_interrupt_while_it_starts_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("raise KeyboardInterrupt")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.fspath(tmp_path), ROOT])}
    command = [sys.executable, "-m", "vggquant", "info", "vgg19"]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout, found.stderr) == (130, "", f"{INTERRUPTED}\n")


@POSIX
@pytest.mark.parametrize(("name", "said"), [("SIGTERM", ""), ("SIGHUP", ""), ("SIGINT", f"{INTERRUPTED}\n")])
def test_a_signal_leaves_no_temporary_files(name: str, said: str, tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": os.fspath(tmp_path), "WITH": name}
    packed = os.fspath(GOLDEN / "planes-4.safetensors")
    command = [sys.executable, "-c", IN_A_STUDY, "compare", packed, packed]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT, check=False)
    assert found.returncode == 128 + signal.Signals[name], found.stderr
    assert found.stderr == said
    assert os.listdir(tmp_path) == []
