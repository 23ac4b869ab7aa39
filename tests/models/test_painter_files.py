"""Packed files of networks that paint: the embedded ones, and damaged, cut and forged ones, for every command."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.conftest import run
from tests.sealing import reseal, unseal
from vggquant import info, load_quantized_vgg, load_stylizer, verify
from vggquant.errors import NetworkError
from vggquant.files.container import write
from vggquant.files.sources import PAINTERS, embedded_path
from vggquant.models.johnson import Johnson
from vggquant.networks.johnson import JohnsonNetwork
from vggquant.pictures.generated import generated_pictures
from vggquant.training.packing import palettized, unquantized


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("painter") / "painter.safetensors"
    write(path, palettized(unquantized(Johnson(JohnsonNetwork.stock("tiny", 0.0625, 1)), "for a test"), 4, None))
    return path.read_bytes()


@pytest.fixture
def content(tmp_path: Path) -> Path:
    Image.fromarray(generated_pictures(1, 32, 40, 1)[0]).save(tmp_path / "content.png")
    return tmp_path / "content.png"


ONE_STYLE = [name for name in PAINTERS if name not in ("adain", "arbitrary")]


@pytest.mark.parametrize("name", ONE_STYLE)
def test_embedded_networks_are_small_and_say_how_they_were_made(name: str) -> None:
    assert embedded_path(name).stat().st_size <= 17_000
    network = load_stylizer(name).network
    assert network == JohnsonNetwork.stock("tiny", 0.3)
    assert network.parameters == 11_868
    assert str(info(name).changes).startswith("trained by vggquant")
    assert verify(name).layers


@pytest.mark.parametrize("name", ONE_STYLE)
def test_embedded_networks_paint(name: str) -> None:
    (array,) = generated_pictures(1, 96, 128, 2)
    picture = torch.from_numpy(array).permute(2, 0, 1)[None].float() / 255
    painted = load_stylizer(name)(picture)
    assert 0.05 < float((painted - picture).abs().mean()) < 0.5
    edges, painted_edges = (x.diff(dim=3).flatten() for x in (picture.mean(1, True), painted.mean(1, True)))
    assert float(torch.corrcoef(torch.stack([edges, painted_edges]))[0, 1]) > 0.2  # what was there is there still


def test_no_vgg(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(NetworkError, match="expected a VGG"):
        load_quantized_vgg(tmp_path / "x")


def broken(data: bytes) -> dict[str, bytes]:
    """Files that must be refused."""
    found = {f"cut at {size}": data[:size] for size in (0, 7, 100, len(data) // 2, len(data) - 1)}
    found |= {f"bit of byte {i}": data[:i] + bytes([data[i] ^ 4]) + data[i + 1 :] for i in range(0, len(data), 61)}
    found["longer"] = data + b"\0"
    for change in ({"blocks": 2}, {"blocks": 10**9}, {"filters": [2, 2, 3]}, {"filters": [2, 2]}, {"more": 1}):
        header, metadata, body = unseal(data)
        metadata["network"]["configuration"].update(change)
        found[f"record with {change}"] = reseal(header, metadata, body)
    return found


@pytest.mark.parametrize("command", ["info", "verify", "unpack", "stylize"])
def test_every_command_refuses_what_is_broken_in_one_line(
    command: str, data: bytes, content: Path, tmp_path: Path
) -> None:
    path, out = tmp_path / "x.safetensors", tmp_path / ("out.pth" if command == "unpack" else "out.png")
    more = {"unpack": (out,), "stylize": ("-o", out, "--network", path)}.get(command, ())
    for name, bytes_ in broken(data).items():
        path.write_bytes(bytes_)
        result = run(command, content if command == "stylize" else path, *more)
        assert (result.exit_code, result.stdout) == (1, ""), f"{name}\n{result.output}"
        assert result.stderr.startswith(f"Error: {path}: "), name
        assert result.stderr.count("\n") == 1
    assert not out.exists()
