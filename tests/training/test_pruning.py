"""Pruning AdaIN: what goes together, how much is left, and that dead channels are not missed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import run
from vggquant import info, load_stylizer, verify
from vggquant.errors import NetworkError, OptionError, StorageError
from vggquant.files.container import read, write
from vggquant.files.disk import sha256
from vggquant.models.adain import AdaIN
from vggquant.networks.adain import FULL, NAMES, AdaINNetwork
from vggquant.training import prune
from vggquant.training.packing import palettized, unquantized
from vggquant.training.pruning import MULTIPLE, narrowed, pruned

WIDE, NARROW = AdaINNetwork((16,) * 9), AdaINNetwork((8, 8, 16, 8, 8, 16, 8, 8, 8))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A packed network that was never trained."""
    torch.manual_seed(0)
    write(tmp_path / "wide", palettized(unquantized(AdaIN(WIDE), "made for a test"), 8, None))
    return tmp_path / "wide"


def test_what_is_made_from_the_embedded_network_says_whose_it_is(tmp_path: Path) -> None:
    prune("adain", tmp_path / "x", 0.05)
    found = info(tmp_path / "x")
    assert found.attribution == info("vgg19").attribution
    assert str(found.changes).startswith(str(info("adain").changes))


def test_dead_channels_are_not_missed() -> None:
    torch.manual_seed(0)
    painter = AdaIN(WIDE).double().eval().requires_grad_(False)
    for before, after in zip((*WIDE.encoder, *WIDE.decoder), (*NARROW.encoder, *NARROW.decoder), strict=True):
        layer = painter.get_submodule(before.name)
        dead = torch.randperm(before.out_channels)[after.out_channels :]
        layer.get_parameter("weight")[dead] = 0
        layer.get_parameter("bias").normal_(0, 0.1)[dead] = 0
    painter.decoder.get_submodule("conv1_1").get_parameter("bias").fill_(0.5)  # so that little is clipped
    left = AdaIN(NARROW).double().eval().requires_grad_(False)
    left.load_state_dict(pruned(WIDE, painter.state_dict(), NARROW))
    content, style = (torch.rand(1, 3, *size, dtype=torch.float64) for size in ((40, 56), (33, 32)))
    expected = painter(content, [style])
    assert float(expected.std()) > 0.001
    # a dead channel of the encoder has the deviation of epsilon, and a mean of 0, before and behind AdaIN
    assert torch.allclose(left(content, [style]), expected, rtol=0, atol=1e-12)


def test_the_channels_of_least_norm_go_with_what_reads_them() -> None:
    torch.manual_seed(0)
    state = AdaIN(WIDE).state_dict()
    left = pruned(WIDE, state, NARROW)
    assert {name: tuple(tensor.shape) for name, tensor in left.items()} == {s.name: s.shape for s in NARROW.tensors}
    first = state["encoder.conv1_1.weight"]
    norms = first.flatten(1).norm(dim=1)
    kept = (norms >= norms.sort().values[8]).nonzero().flatten()
    assert torch.equal(left["encoder.conv1_1.weight"], first[kept])
    second = state["encoder.conv1_2.weight"][:, kept]
    assert all(any(torch.equal(row, other) for other in second) for row in left["encoder.conv1_2.weight"])


@pytest.mark.parametrize("keep", [0.9, 0.7, 0.4, 0.2, 0.05])
@pytest.mark.parametrize("first", ["conv1_1", "conv2_1", "conv4_1"])
def test_at_most_the_share_is_left_in_multiples(keep: float, first: str) -> None:
    network = AdaINNetwork()
    if first == "conv4_1" and keep < 0.7:
        with pytest.raises(OptionError, match="keep: expected a share of weights that can be kept"):
            narrowed(network, keep, first)
        return
    found = narrowed(network, keep, first)
    assert found.parameters <= keep * network.parameters
    assert found.parameters > 0.8 * keep * network.parameters - 40_000
    begin = NAMES.index(first)
    assert found.channels[:begin] == FULL[:begin]
    pairs = list(zip(found.channels, FULL, strict=True))[begin:]
    assert all(count % MULTIPLE == 0 and 0 < count <= full for count, full in pairs)
    shares = [count / full for count, full in pairs]
    assert max(shares) - min(shares) <= MULTIPLE / min(FULL)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"keep": 0.0}, "keep: expected a share between 0 and 1, got 0.0"),
        ({"keep": 1.0}, "keep: expected a share between 0 and 1, got 1.0"),
        ({"keep": float("nan")}, "keep: expected a share between 0 and 1, got nan"),
        ({"keep": 0.001}, "keep: expected a share of weights that can be kept, got 0.001; keep more"),
        ({"keep": 0.5, "first": "conv5_1"}, "first: expected a convolution conv1_1 … conv4_1, got conv5_1"),
    ],
)
def test_options_without_a_meaning_are_refused(path: Path, given: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        prune(path, path.with_name("out"), **given)
    assert not path.with_name("out").exists()


def test_files(path: Path) -> None:
    out = path.with_name("out")
    shape = prune(path, out, 0.5)
    assert shape.channels == (8,) * 9
    assert read(out).network == shape
    assert load_stylizer(out).network == shape
    found = info(out)
    assert str(found.changes).startswith("made for a test; ")
    assert "; pruned to 0.258 of its weights" in str(found.changes)
    assert verify(out).layers
    with pytest.raises(StorageError, match="expected a new file"):
        prune(path, out, 0.5)
    before = sha256(out.read_bytes())
    prune(path, out, 0.5, force=True)
    assert sha256(out.read_bytes()) == before
    with pytest.raises(StorageError, match="expected an output other than the source"):
        prune(path, path, 0.5, force=True)
    for name, family in (("starry", "johnson"), ("vgg19", "vgg")):
        with pytest.raises(NetworkError, match=f"expected a network of the family adain, got {family}; name adain"):
            prune(name, path.with_name("other"), 0.5)


def test_the_command(path: Path) -> None:
    out = path.with_name("out")
    result = run("prune", path, out, "--keep", "0.5")
    assert result.exit_code == 0, result.output
    parameters = AdaINNetwork((8,) * 9).parameters
    assert result.stdout == (
        f"{out}: {parameters:,} parameters in {out.stat().st_size:,} bytes; channels {', '.join(['8'] * 9)}\n"
    )
    result = run("prune", path, path.with_name("new"), "--keep", "2")
    assert result.exit_code == 2
    assert "Error: --keep: expected a share between 0 and 1, got 2.0" in result.stderr
    result = run("prune", "starry", path.with_name("new"), "--keep", "0.5")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "name adain, or one that train made with" in result.stderr
