"""States beside pictures: written, read back bit for bit, tied to their picture, and refused if they are damaged."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from tests.style.networks import Tiny
from vggquant.errors import StorageError, VggQuantError
from vggquant.pictures.files import Picture, write_picture
from vggquant.style.options import StyleOptions
from vggquant.style.states import NewestState, read_state, state_path, write_state
from vggquant.style.task import Reached
from vggquant.style.transfer import stylize

AREA = 24 * 32


@pytest.fixture
def reached() -> Reached:
    torch.manual_seed(0)
    content, kept = torch.rand(1, 3, 24, 32), list[Reached]()
    options = StyleOptions(steps=7, scales=2)
    stylize(Tiny(), content, [content.flip(2)], options, progress=lambda made: kept.append(made.reached))
    return kept[1]


@pytest.fixture
def picture(tmp_path: Path, reached: Reached) -> Path:
    write_picture(tmp_path / "2.png", Picture(torch.rand(1, 3, 12, 16)))
    write_state(tmp_path / "2.png", reached)
    return tmp_path / "2.png"


def test_what_was_written_is_read(picture: Path, reached: Reached) -> None:
    found = read_state(picture, AREA)
    assert found is not None
    assert (found.done, found.planned) == (2, 7)
    assert torch.equal(found.first, reached.first)
    assert found.memory.keys() == reached.memory.keys()
    for name, tensor in reached.memory.items():
        assert found.memory[name].dtype == tensor.dtype
        assert torch.equal(found.memory[name], tensor)


def test_a_state_is_a_plain_safetensors_file(picture: Path, reached: Reached) -> None:
    from safetensors.torch import load_file

    assert load_file(state_path(picture)).keys() == {"first", *reached.memory}


def test_another_pictures_state_is_none(picture: Path) -> None:
    write_picture(picture, Picture(torch.rand(1, 3, 12, 16)), force=True)
    assert read_state(picture, AREA) is None
    Path(state_path(picture)).unlink()
    assert read_state(picture, AREA) is None


def test_damaged_states_are_refused(picture: Path) -> None:
    path = Path(state_path(picture))
    whole = path.read_bytes()
    changed = whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:]
    lying = whole.replace(b'done\\": 2', b'done\\": x')
    for damaged in (b"", b"{}", whole[:-1], whole + b"x", changed, lying):
        path.write_bytes(damaged)
        with pytest.raises(VggQuantError, match=rf"^{re.escape(str(path))}: .*; delete it to go on from the picture"):
            read_state(picture, AREA)


def test_a_state_larger_than_its_transfer_is_not_read(picture: Path) -> None:
    with open(state_path(picture), "r+b") as file:
        file.truncate(2**22)
    with pytest.raises(StorageError, match=r"2\.png\.state: expected at most"):
        read_state(picture, AREA)


def test_the_newest_alone_is_kept_and_others_are_left_alone(picture: Path, reached: Reached) -> None:
    states = NewestState(force=False)
    states.keep(picture, reached)
    assert "2.png.state: expected a new file" in states.lost
    for name in ("3.png", "4.png"):
        write_picture(picture.parent / name, Picture(torch.rand(1, 3, 12, 16)))
        states.keep(picture.parent / name, reached)
    assert sorted(path.name for path in picture.parent.glob("*.state")) == ["2.png.state", "4.png.state"]
