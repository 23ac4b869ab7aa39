"""A packed file to a network that paints in one pass.

Reading is left to `files`, restoring to `codec`, and the networks themselves to their own modules.
"""

from __future__ import annotations

import torch

from vggquant.errors import NetworkError, located
from vggquant.files.container import read
from vggquant.files.disk import Readable, name_of
from vggquant.files.sources import resolve
from vggquant.files.weights import Weights
from vggquant.models.adain import AdaIN
from vggquant.models.arbitrary import Arbitrary
from vggquant.models.devices import require_device
from vggquant.models.johnson import Johnson
from vggquant.models.layout import lay_channels_last
from vggquant.networks.adain import AdaINNetwork
from vggquant.networks.arbitrary import ArbitraryNetwork
from vggquant.networks.johnson import JohnsonNetwork

Painter = Johnson | AdaIN | Arbitrary


@torch.inference_mode(False)  # tensors made in that mode would be of no use for gradients later
def load_stylizer(path: Readable, *, device: torch.device | str = "cpu") -> Painter:
    """Load a network that paints in one pass.

    Args:
        path: A packed file of a network that paints, as for `load_quantized_vgg`, or the name of an embedded one:
            ``starry``, ``scream``, ``wave`` and ``mosaic`` know one style, ``adain`` and ``arbitrary`` take any.
        device: Where the weights go.

    Returns:
        A module from pictures (N, 3, H, W), RGB in [0, 1], and for ``adain`` and ``arbitrary`` a list of style
        pictures, to paintings of the same shape; in eval mode, and its parameters need no gradient.

    Raises:
        VggQuantError: The file is missing or not sound, or holds a network that does not paint.

    Example:
        >>> paint = load_stylizer("starry")
        >>> paint(torch.rand(1, 3, 48, 64)).shape
        torch.Size([1, 3, 48, 64])
        >>> paint = load_stylizer("adain")  # or "arbitrary"
        >>> paint(torch.rand(1, 3, 48, 64), [torch.rand(1, 3, 50, 40)], strength=0.7).shape
        torch.Size([1, 3, 48, 64])
    """
    device = require_device(device)
    file = resolve(path)
    weights = read(file)
    with located(name_of(path)):
        painter = painter_of(weights)
    return painter.to(device)


def painter_of(weights: Weights) -> Painter:
    """A network that paints, in eval mode and without gradients, of its weights.

    Raises:
        NetworkError: They are those of a network that does not paint.
    """
    network = weights.network
    painter: Painter
    with torch.device("meta"):  # where nothing is allocated, and no random weights are made
        if isinstance(network, JohnsonNetwork):
            painter = Johnson(network)
        elif isinstance(network, AdaINNetwork):
            painter = AdaIN(network)
        elif isinstance(network, ArbitraryNetwork):
            painter = Arbitrary(network)
        else:
            cure = "name one that `vggquant train` made"
            raise NetworkError("a network that paints", f"a network of the family {network.family}", cure)
    state = {spec.name: torch.tensor(weights.array(spec.name)) for spec in network.tensors}
    painter.load_state_dict(state, assign=True)
    if isinstance(painter, AdaIN | Arbitrary):
        lay_channels_last(painter)
    return painter.eval().requires_grad_(False)
