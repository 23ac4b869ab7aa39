"""What becomes of files when writers fail or are killed, readers meet a replacement, and many load at once."""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import GOLDEN, POSIX, run
from vggquant.errors import StorageError, VggQuantError
from vggquant.files.container import read, write
from vggquant.files.disk import HEAD_BYTES, Bytes, read_file, write_file
from vggquant.models.load import load_quantized_vgg
from vggquant.packing.packer import pack

ROOT = Path(__file__).parents[2]
OLD, NEW = GOLDEN / "planes-1.safetensors", GOLDEN / "planes-8.safetensors"
CALLS = ("open", "chmod", "fsync", "link", "replace", "unlink", "close")

# a writer that fails, or is killed, at its N-th system call, whichever that is
WRITER = f"""
import builtins, errno, io, os, signal, sys
from vggquant.packing.packer import pack
from vggquant.files import disk

path, number, how = sys.argv[1], int(sys.argv[2]), sys.argv[3]
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell may have made to be ignored
made = 0

def counted(original):
    def call(*arguments, **options):
        global made
        made += 1
        if made == number:
            if how != "fail":
                os.kill(os.getpid(), signal.Signals[how])
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return original(*arguments, **options)
    return call

class File(io.FileIO):
    write = counted(io.FileIO.write)

def opened(file, mode, **options):
    return File(file, "x") if mode == "xb" else open(file, mode, **options)

disk.open = counted(opened)
for name in {CALLS!r}:
    setattr(os, name, counted(getattr(os, name)))
try:
    pack({os.fspath(NEW)!r}, path, force=True)
except Exception as error:
    from vggquant.errors import StorageError
    sys.exit(1 if isinstance(error, StorageError) else 3)
finally:
    print(made)
"""


def write_with_fault(path: Path, number: int, how: str) -> int:
    """Exit status of a writer, or minus the signal that ended it."""
    command = [sys.executable, "-c", WRITER, str(path), str(number), how]
    return subprocess.run(command, capture_output=True, cwd=ROOT, check=False).returncode


@pytest.fixture(scope="module")
def new_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("new") / "x"
    pack(NEW, path)
    return path.read_bytes()


@POSIX
@pytest.mark.parametrize("how", ["fail", "SIGINT", "SIGTERM", "SIGKILL"])
def test_the_old_file_or_the_new_one_after_a_fault_anywhere(how: str, tmp_path: Path, new_bytes: bytes) -> None:
    path, ends = tmp_path / "x.safetensors", set()
    for number in range(1, 60):
        path.write_bytes(OLD.read_bytes())
        status = write_with_fault(path, number, how)
        found = path.read_bytes()
        assert found in (OLD.read_bytes(), new_bytes), number
        ends.add(found == new_bytes)
        left = [name for name in os.listdir(tmp_path) if name != path.name]
        if status == 0:
            assert found == new_bytes
            assert left == []
            break
        assert status == (1 if how == "fail" else -signal.Signals[how]), number
        if how in ("fail", "SIGINT"):
            assert left == [], number
        for name in left:  # pretend that a minute has passed
            os.utime(tmp_path / name, (1, 1))
    else:
        pytest.fail("the writer never came to its end")
    assert number > 5
    assert ends == {True, False}


FAULTS = [f"write:error={name}:when={n}" for name in ("ENOSPC", "EDQUOT", "EFBIG") for n in (1, 2)]
FAULTS += ["fsync:error=EIO:when=1", "fsync:error=EIO:when=2", "rename:error=EIO:when=1", "flock:error=ENOLCK:when=1"]
FAULTS += [f"{call}:signal=SIGKILL:when=1" for call in ("write", "fsync", "rename")]


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
@pytest.mark.parametrize("fault", FAULTS)
def test_the_old_file_or_the_new_one_after_a_fault_of_the_system(fault: str, tmp_path: Path, new_bytes: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(OLD.read_bytes())
    pack_it = [sys.executable, "-m", "vggquant", "pack", os.fspath(NEW), os.fspath(path), "--force"]
    injecting = ["strace", "-f", "-qq", "-o", os.devnull, "-e", f"trace={fault.partition(':')[0]}", "-e"]
    found = subprocess.run([*injecting, f"inject={fault}", *pack_it], capture_output=True, text=True, check=False)
    if "ptrace" in found.stderr:
        pytest.skip("strace is not permitted here")
    assert path.read_bytes() in (OLD.read_bytes(), new_bytes)
    left = [name for name in os.listdir(tmp_path) if name != path.name]
    if "SIGKILL" in fault:
        assert found.returncode < 0
        assert path.read_bytes() == OLD.read_bytes()
        assert len(left) == 1
    else:
        assert left == []
        assert found.returncode == (0 if fault.startswith("flock") else 1)
        assert found.stderr.count("Error: ") == found.returncode
        assert "Traceback" not in found.stderr


def test_a_live_writers_temporary_file_is_not_swept(tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    held, stale, young, other = (tmp_path / f".vggquant-{name}.tmp" for name in ("held", "stale", "young", "other"))
    for path in (held, stale, young):
        path.write_bytes(b"x")
    other.mkdir()
    for path in (held, stale, other):
        os.utime(path, (1, 1))
    with held.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        write_file(tmp_path / "x", [b"new"])
    assert not stale.exists()
    assert held.exists()
    assert young.exists()
    assert other.exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO])
def test_a_write_that_fails_halfway(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")

    def chunks() -> Any:
        yield b"half"
        raise OSError(number, os.strerror(number))

    with pytest.raises(StorageError, match=os.strerror(number)):
        write_file(path, chunks(), force=True)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize("place", [9, 700, -70, -1])  # in the header, the metadata, the codes, and the bias
def test_a_file_that_does_not_read_back_never_takes_its_place(
    place: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(OLD.read_bytes())
    original = os.fsync

    def spoil(descriptor: int) -> None:
        original(descriptor)
        if os.fstat(descriptor).st_size > 1000:
            end = place if place >= 0 else os.fstat(descriptor).st_size + place
            (temporary,) = tmp_path.glob(".vggquant-*")
            data = bytearray(temporary.read_bytes())
            data[end] ^= 4
            temporary.write_bytes(data)

    monkeypatch.setattr(os, "fsync", spoil)
    result = run("pack", NEW, path, "--force")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {path}: ")
    assert " to be read back, got " in result.stderr
    assert result.stderr.endswith("; check the disk and the memory of this machine, and try again\n")
    assert result.stderr.count("\n") == 1
    assert path.read_bytes() == OLD.read_bytes()
    assert os.listdir(tmp_path) == [path.name]


def test_weights_that_no_reader_takes_are_not_written(tmp_path: Path) -> None:
    weights = read(NEW)
    tensor = weights.palettized["conv1_1.weight"]
    short = {"conv1_1.weight": dataclasses.replace(tensor, codebook=tensor.codebook[:3])}
    with pytest.raises(StorageError, match=r"codes below 3, the codebook's size to be read back, got"):
        write(tmp_path / "x", dataclasses.replace(weights, palettized=short))
    assert os.listdir(tmp_path) == []


@POSIX
def test_a_limit_on_file_sizes_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(OLD.read_bytes())
    script = "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
    script += (
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); from vggquant.__main__ import main; sys.exit(main())"
    )
    command = [sys.executable, "-c", script, "pack", os.fspath(NEW), os.fspath(path), "--force"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert found.stderr.startswith(f"Error: {path}: expected a writable place, got File too large;")
    assert found.stderr.count("\n") == 1
    assert path.read_bytes() == OLD.read_bytes()
    assert os.listdir(tmp_path) == [path.name]


@POSIX
def test_readers_never_see_a_mixture(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    contents = [OLD.read_bytes(), NEW.read_bytes()]
    path.write_bytes(contents[0])
    expected = {read(source).palettized["conv1_1.weight"].codes.bits for source in (OLD, NEW)}
    done = threading.Event()
    seen: list[int] = []

    def look() -> int:
        times = 0
        while not done.is_set() or not times:
            seen.append(read(path).palettized["conv1_1.weight"].codes.bits)
            times += 1
        return times

    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(look) for _ in range(4)]
        for number in range(200):
            write_file(path, [contents[number % 2]], force=True)
        done.set()
        assert all(reader.result() > 0 for reader in readers)
    assert set(seen) == expected


def test_two_writers_leave_one_of_their_files(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    contents = [OLD.read_bytes(), NEW.read_bytes()]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda n: write_file(path, [contents[n % 2]], force=True), range(100)))
    assert path.read_bytes() in contents
    assert os.listdir(tmp_path) == [path.name]
    path.unlink()

    def first(number: int) -> bool:
        try:
            write_file(path, [contents[number]])
        except VggQuantError:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(first, (0, 1))) == [False, True]


def test_loading_from_eight_threads_at_once() -> None:
    expected = {name: tensor.clone() for name, tensor in load_quantized_vgg(upto="relu3_1").state_dict().items()}
    with ThreadPoolExecutor(8) as pool:
        for model in pool.map(lambda _: load_quantized_vgg(upto="relu3_1"), range(8)):
            found = model.state_dict()
            assert found.keys() == expected.keys()
            assert all(bool((found[name] == expected[name]).all()) for name in expected)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_loading_after_a_fork() -> None:
    script = """
import os, sys, torch
from vggquant import load_quantized_vgg
before = load_quantized_vgg(upto="relu2_1")
child = os.fork()
again = load_quantized_vgg(upto="relu2_1").state_dict()
same = all(torch.equal(tensor, again[name]) for name, tensor in before.state_dict().items())
if child == 0:
    os._exit(0 if same else 1)
sys.exit(0 if same and os.waitpid(child, 0)[1] == 0 else 1)
"""
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", script], timeout=120, check=False).returncode == 0


@pytest.mark.parametrize("seed", ["0", "1"])
def test_bytes_do_not_depend_on_hash_seeds_or_threads(seed: str, tmp_path: Path, new_bytes: bytes) -> None:
    for threads in ("1", "2", "8"):
        out = tmp_path / f"{threads}.safetensors"
        command = [sys.executable, "-m", "vggquant", "pack", os.fspath(NEW), os.fspath(out), "--jobs", threads]
        environment = {**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": threads}
        subprocess.run(command, env=environment, capture_output=True, check=True)
        assert out.read_bytes() == new_bytes


def test_a_file_replaced_while_it_is_read_is_read_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "x"
    old, new = b"o" * 3 * HEAD_BYTES, b"n" * 3 * HEAD_BYTES
    path.write_bytes(old)

    def replace_it(data: Bytes) -> int:
        write_file(path, [new], force=True)
        return data.size

    assert read_file(path, replace_it).tobytes() == old
    assert path.read_bytes() == new
