"""Prunes AdaIN: leaves out the channels of least L2 norm, of the encoder and the decoder alike.

K. Kim et al., "Deep Neural Compression for Adaptive Instance Normalization Style Transfer", whose networks are trained
on after each pruning; that is left to `training`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from vggquant.errors import NetworkError, OptionError, located
from vggquant.files.container import read, write
from vggquant.files.disk import PathLike, check_output, name_of, read_file, sha256
from vggquant.files.sources import resolve
from vggquant.files.weights import Weights
from vggquant.networks.adain import NAMES, AdaINNetwork
from vggquant.training.packing import palettized

MULTIPLE = 8  # of which numbers of channels are chosen, for processors compute as many at a time


def narrowed(network: AdaINNetwork, keep: float, first: str = NAMES[0]) -> AdaINNetwork:
    """The shape that is left of a network.

    Args:
        network: Before.
        keep: The share of its weights that are kept at most.
        first: The first of the encoder's convolutions that lose channels; all behind it lose the same share of theirs.

    Raises:
        OptionError: There is no such convolution, or `keep` is no share below 1 that can be kept.
    """
    if first not in NAMES:
        raise OptionError(f"a convolution {NAMES[0]} … {NAMES[-1]}", first, "choose one of these", tensor="first")
    if not 0 < keep < 1:
        raise OptionError("a share between 0 and 1", keep, "choose one, such as 0.4", tensor="keep")
    begin, most = NAMES.index(first), keep * network.parameters
    multiples = ((count, n * MULTIPLE) for count in network.channels for n in range(1, count // MULTIPLE + 1))
    for share in sorted({round(kept / count, 12) for count, kept in multiples}, reverse=True):
        channels = tuple(
            count if index < begin else min(count, max(MULTIPLE, MULTIPLE * int(share * count / MULTIPLE + 1e-6)))
            for index, count in enumerate(network.channels)
        )
        found = AdaINNetwork(channels)
        if found.parameters <= most:
            return found
    cure = "keep more" + ("" if begin == 0 else ", or name an earlier convolution as `first`")
    raise OptionError("a share of weights that can be kept", keep, cure, tensor="keep")


def pruned(network: AdaINNetwork, state: Mapping[str, Tensor], shape: AdaINNetwork) -> dict[str, Tensor]:
    """The weights that are left of a network.

    Each convolution loses the filters of least norm, and the next one its inputs from them. The decoder's first
    convolution follows the encoder's last one, so it loses its inputs from there.

    Args:
        network: Its shape before.
        state: Its weights by name.
        shape: What it is narrowed to, with no more channels anywhere.
    """
    found: dict[str, Tensor] = {}
    kept = torch.arange(3)
    for before, after in zip((*network.encoder, *network.decoder), (*shape.encoder, *shape.decoder), strict=True):
        weight, bias = state[f"{before.name}.weight"][:, kept], state[f"{before.name}.bias"]
        norms = torch.linalg.vector_norm(weight.flatten(1), dim=1)
        kept = norms.topk(after.out_channels).indices.sort().values
        found[f"{before.name}.weight"], found[f"{before.name}.bias"] = weight[kept], bias[kept]
    return found


def prune(path: PathLike, out: PathLike, keep: float, *, first: str = NAMES[0], force: bool = False) -> AdaINNetwork:
    """Leave out channels of a packed network, and pack what is left at 8 bits.

    What is left paints badly until it is trained on, see `train_adain` with `start`. Pruning in several steps, with
    some training after each, loses less than one large step.

    Args:
        path: A packed file of the family ``adain``, or ``adain``.
        out: The packed file to write.
        keep: The share of the weights that are kept at most.
        first: The first of the encoder's convolutions that lose channels.
        force: Whether an existing file may be replaced.

    Returns:
        What is left, as a shape.

    Raises:
        VggQuantError: The file is missing, not sound or in the way, or holds another network, or `keep` or `first` have
            no meaning.
    """
    file = resolve(path)
    check_output(out, force=force, sources=[file])
    weights = read(file)
    network = weights.network
    if not isinstance(network, AdaINNetwork):
        cure = "name adain, or one that train made with `network` adain"
        with located(name_of(file)):
            raise NetworkError("a network of the family adain", network.family, cure)
    shape = narrowed(network, keep, first)
    state = {spec.name: torch.tensor(weights.array(spec.name)) for spec in network.tensors}
    arrays = {name: tensor.numpy() for name, tensor in pruned(network, state, shape).items()}
    made = f"pruned to {shape.parameters / network.parameters:.3f} of its weights"
    changes = "; ".join(filter(None, [weights.provenance.changes, made]))
    provenance = replace(weights.provenance, sha256=sha256(read_file(file)), layout="vggquant", changes=changes)
    write(out, palettized(Weights(shape, {}, arrays, provenance), None, None), force=force)
    return shape
