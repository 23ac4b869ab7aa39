"""A network that paints in any style as a torch module: a predictor of 100 numbers, and the transfer network.

Their shape is left to `networks.arbitrary`, their weights to `painters`, their training to `training.distilling`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, conv2d, interpolate, pad, relu6, relu_

from vggquant.errors import PictureError
from vggquant.models import phases
from vggquant.models.mixing import shares_of
from vggquant.networks.arbitrary import CODE, ArbitraryNetwork, Border, PredictorLayer, TransferLayer

SMALLEST = 16  # pixels of a side, which reflection at the border of a quarter of it needs
STYLE_SIDE = 256  # pixels of a side of the pictures that a predictor looks at
SHRINKS = 4  # sides of pictures over those of the residual blocks
EPSILON = 1e-5  # added to variances
DOUBLING = ("up1", "up2")  # layers before which images are doubled by repeating pixels


class Arbitrary(nn.Module):
    """Paints pictures in the styles of others, which it sees for the first time.

    Args:
        network: Its shape.

    Example:
        >>> paint = Arbitrary(ArbitraryNetwork())
        >>> paint(torch.rand(1, 3, 48, 64), [torch.rand(1, 3, 50, 40)], strength=0.7).shape
        torch.Size([1, 3, 48, 64])
        >>> code = paint.predict(torch.rand(1, 3, 50, 40))
        >>> paint(torch.rand(1, 3, 48, 64), code).shape
        torch.Size([1, 3, 48, 64])
    """

    def __init__(self, network: ArbitraryNetwork) -> None:
        super().__init__()
        self.network = network
        self.predictor = Predictor(network)
        self.transfer = Transfer(network)

    def forward(
        self,
        images: Tensor,
        styles: Tensor | Sequence[Tensor],
        *,
        strength: float = 1.0,
        weights: Sequence[float] | None = None,
        masks: Sequence[Tensor | None] | None = None,
    ) -> Tensor:
        """Paint pictures.

        Args:
            images: (N, 3, H, W), RGB in [0, 1].
            styles: One or more, each pictures (N or 1, 3, H', W') of any size, or what `predict` gave for them; or what
                it or `blend` gave, alone.
            strength: How much of the style is taken, from 0, where pictures are painted in their own style, to 1.
            weights: How much each of the styles counts; all alike if not given. They are divided by their sum.
            masks: For each style ``None``, or (1, 1, H'', W'') in [0, 1]: where it is wanted, in shares of its weight.
                Where no style is wanted, pictures are painted in their own.

        Returns:
            Paintings of the same shape, in [0, 1].

        Raises:
            OptionError: `strength` or `weights` have no meaning.
            PictureError: Images, styles or codes are of another shape, or too small.
        """
        _require_pictures("images", images)
        several = [styles] if isinstance(styles, Tensor) else list(styles)
        shares = shares_of(len(several), strength, weights, masks)
        codes = [style if style.ndim == 2 else self.predict(style) for style in several]
        for code in codes:
            _require_codes(code, len(images))
        if masks is None or all(mask is None for mask in masks):
            if strength < 1:
                codes, shares = [self.predict(images), *codes], [1 - strength, *shares]
            return self._painted(images, _summed(codes, shares))
        own = self.predict(images)[:, :, None, None]
        height, width = (-(-side // SHRINKS) for side in images.shape[2:])
        steering = own.expand(-1, -1, height, width)
        for code, share, mask in zip(codes, shares, masks, strict=True):
            where = share if mask is None else share * adaptive_avg_pool2d(mask, (height, width))
            steering = steering + where * (code[:, :, None, None] - own)
        return self._painted(images, steering)

    def predict(self, styles: Tensor) -> Tensor:
        """The numbers that styles are.

        Args:
            styles: (N, 3, H, W), RGB in [0, 1], of any size; the predictor looks at them at 256 × 256 pixels.

        Returns:
            (N, 100).

        Raises:
            PictureError: Styles are of another shape, or too small.
        """
        _require_pictures("styles", styles)
        code: Tensor = self.predictor(seen(styles))
        return code

    @staticmethod
    def blend(codes: Sequence[Tensor], weights: Sequence[float] | None = None) -> Tensor:
        """A style between others.

        Args:
            codes: What `predict` gave for each of them.
            weights: How much each counts; all alike if not given. They are divided by their sum.

        Returns:
            Its numbers, of the same shape.

        Raises:
            OptionError: `weights` have no meaning.
            PictureError: Codes are of another shape.
        """
        for code in codes:
            _require_codes(code, max(map(len, codes)))
        return _summed(codes, shares_of(len(codes), 1.0, weights, None))

    def _painted(self, images: Tensor, codes: Tensor) -> Tensor:
        paintings: Tensor = self.transfer(images, codes)
        return paintings

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.network.configuration.items())


class Predictor(nn.Module):
    """Looks at pictures and says in 100 numbers what their style is.

    Args:
        network: Its shape.
    """

    def __init__(self, network: ArbitraryNetwork) -> None:
        super().__init__()
        self._units = network.units
        for layer in network.predictor_layers:
            _add(self, layer.name, _convolution(layer))

    def forward(self, styles: Tensor) -> Tensor:
        """Predict.

        Args:
            styles: (N, 3, H, W), RGB in [0, 1]; pictures of 256 × 256 pixels are those that it was made for.

        Returns:
            (N, 100).

        Raises:
            PictureError: Pictures are of another shape, or too small.
        """
        _require_pictures("styles", styles)
        x = relu6(self._layer("first", styles))
        for unit in self._units:
            before = x
            for layer in unit.layers[:-1]:
                x = relu6(self._layer(layer.name, x))
            x = self._layer(unit.layers[-1].name, x)
            if unit.residual:
                x = x + before
        x = relu6(self._layer("last", x)).mean((2, 3), keepdim=True)
        return self._layer("code", x).flatten(1)

    def _layer(self, name: str, x: Tensor) -> Tensor:
        found: Tensor = self.get_submodule(name)(x)
        return found


class Transfer(nn.Module):
    """Paints pictures in the styles that numbers say.

    Args:
        network: Its shape.
    """

    def __init__(self, network: ArbitraryNetwork) -> None:
        super().__init__()
        self._blocks = [layer.name[:-2] for layer in network.transfer_layers if layer.name.endswith("_1")]
        for layer in network.transfer_layers:
            made = _Steered(layer, network.border) if layer.steered else _Plain(layer, network.border)
            self.add_module(layer.name, made)

    def forward(self, contents: Tensor, codes: Tensor) -> Tensor:
        """Paint pictures.

        Args:
            contents: (N, 3, H, W), RGB in [0, 1].
            codes: (N, 100), or (1, 100) for all of them; or (N, 100, H', W') or (1, 100, H', W'), where a style differs
                from place to place.

        Returns:
            Paintings of the same shape as the contents, in [0, 1].

        Raises:
            PictureError: Contents or codes are of another shape, or too small.
        """
        _require_pictures("contents", contents)
        _require_codes(codes, len(contents))
        x = contents
        for name in ("down1", "down2", "down3"):
            x = relu_(self.get_submodule(name)(x))
        for block in self._blocks:
            within = relu_(self._steered(f"{block}_1", x, codes))
            x = self._steered(f"{block}_2", within, codes).add_(x)
        for name in DOUBLING:
            x = relu_(self._steered(name, x, codes))
        x = x[:, :, : contents.shape[2], : contents.shape[3]]  # halved and doubled, a side may have grown
        return torch.sigmoid(self._steered("out", x, codes))

    def _steered(self, name: str, x: Tensor, codes: Tensor) -> Tensor:
        found: Tensor = self.get_submodule(name)(x, codes)
        return found


class _Plain(nn.Module):
    """A convolution with a bias.

    Args:
        layer: Its shape.
        border: What lies beyond the border of a picture.
    """

    def __init__(self, layer: TransferLayer, border: Border) -> None:
        super().__init__()
        self._layer, self._border = layer, border
        self.convolution = nn.Conv2d(layer.in_channels, layer.out_channels, layer.kernel, layer.stride)
        _initialise(self.convolution)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.convolution(_bordered(x, self._layer.kernel, self._border))
        return found


class _Steered(nn.Module):
    """A convolution without bias, and an instance normalisation of which a style decides on gain and shift.

    Args:
        layer: Its shape.
        border: What lies beyond the border of a picture.
    """

    def __init__(self, layer: TransferLayer, border: Border) -> None:
        super().__init__()
        self._layer, self._border = layer, border
        self._doubles = layer.name in DOUBLING
        inside, outside, kernel = layer.in_channels, layer.out_channels, layer.kernel
        if layer.separable:
            self.depthwise = nn.Conv2d(inside, inside, kernel, groups=inside, bias=False)
            self.pointwise = nn.Conv2d(inside, outside, 1, bias=False)
            _initialise(self.depthwise)
            _initialise(self.pointwise)
        else:
            self.convolution = nn.Conv2d(inside, outside, kernel, bias=False)
            _initialise(self.convolution)
        self.gain, self.shift = nn.Linear(CODE, outside), nn.Linear(CODE, outside)
        nn.init.ones_(self.gain.bias)
        nn.init.zeros_(self.shift.bias)

    def forward(self, x: Tensor, codes: Tensor) -> Tensor:
        x = self._doubled(x) if self._doubles and not self.training else self._convolved(x)
        gain, shift = (_steering(part, codes, x) for part in (self.gain, self.shift))
        wide = x.float()  # in a half type too much of small deviations would be lost
        if wide.is_contiguous(memory_format=torch.channels_last):
            mean, variance = phases.moments(wide)
        else:
            variance, mean = torch.var_mean(wide, (2, 3), correction=0, keepdim=True)
        scale = gain * (variance + EPSILON).rsqrt()
        # memory that is at hand, where no gradient needs it as it was
        out = None if torch.is_grad_enabled() or torch.compiler.is_compiling() else wide
        return torch.addcmul(shift - mean * scale, wide, scale, out=out).to(gain.dtype)

    def _convolved(self, x: Tensor) -> Tensor:
        if self._doubles:
            x = interpolate(x, scale_factor=2, mode="nearest")
        x = _bordered(x, self._layer.kernel, self._border)
        found: Tensor = self.pointwise(self.depthwise(x)) if self._layer.separable else self.convolution(x)
        return found

    def _doubled(self, x: Tensor) -> Tensor:
        """The same without writing the pixels that are doubled."""
        x = pad(x, (1, 1, 1, 1), mode="replicate" if self._border == "reflect" else "constant")
        if self._layer.separable:
            return phases.doubled_separable_convolution(x, self.depthwise.weight, self.pointwise.weight)
        return phases.doubled_convolution(x, self.convolution.weight)


def seen(styles: Tensor) -> Tensor:
    """Style pictures (N, 3, H, W) of any size as a predictor looks at them, (N, 3, 256, 256)."""
    wide = styles.float()  # torch has no antialiasing in half types
    size = (STYLE_SIDE, STYLE_SIDE)
    return interpolate(wide, size, mode="bilinear", antialias=True, align_corners=False).to(styles.dtype)


def _steering(part: nn.Linear, codes: Tensor, x: Tensor) -> Tensor:
    """What a style decides of a normalisation, (N, C, 1, 1), or where it differs from place to place, as large as x."""
    found: Tensor
    if codes.ndim == 2:
        found = part(codes)
        return found[:, :, None, None]
    found = conv2d(codes, part.weight[:, :, None, None], part.bias)
    return interpolate(found, (x.shape[2], x.shape[3]), mode="bilinear", align_corners=False)


def _summed(codes: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    """So much of each of some codes."""
    total = shares[0] * codes[0]
    for code, share in zip(codes[1:], shares[1:], strict=True):
        total = total + share * code
    return total


def _add(module: nn.Module, path: str, made: nn.Module) -> None:
    """Register a module at a dotted path."""
    *folders, name = path.split(".")
    for folder in folders:
        if not hasattr(module, folder):
            module.add_module(folder, nn.Module())
        module = module.get_submodule(folder)
    module.add_module(name, made)


def _convolution(layer: PredictorLayer) -> nn.Conv2d:
    groups = layer.in_channels if layer.depthwise else 1
    made = nn.Conv2d(
        layer.in_channels, layer.out_channels, layer.kernel, layer.stride, layer.kernel // 2, groups=groups
    )
    _initialise(made)
    return made


def _initialise(convolution: nn.Conv2d) -> None:
    nn.init.kaiming_normal_(convolution.weight, mode="fan_in", nonlinearity="relu")
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)


def _bordered(x: Tensor, kernel: int, border: Border) -> Tensor:
    """Images with a border as wide as a kernel needs."""
    if kernel == 1:
        return x
    sides = (kernel // 2,) * 4
    return pad(x, sides, mode="reflect") if border == "reflect" else pad(x, sides)


def _require_codes(codes: Tensor, count: int) -> None:
    if codes.ndim not in (2, 4) or codes.shape[1] != CODE or codes.shape[0] not in (1, count):
        expected = " or ".join(f"({number}, {CODE})" for number in sorted({1, count}))
        raise PictureError(f"shape {expected}", tuple(codes.shape), "pass what `predict` gives", tensor="codes")


def _require_pictures(name: str, pictures: Tensor) -> None:
    if pictures.ndim != 4 or pictures.shape[1] != 3 or min(pictures.shape[2:]) < SMALLEST:
        expected = f"shape (N, 3, H, W) with sides of at least {SMALLEST}"
        raise PictureError(expected, tuple(pictures.shape), "reorder or enlarge the pictures", tensor=name)
