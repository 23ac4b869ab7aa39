"""Distillation: a predictor learns a teacher's numbers, a transfer network its pictures and what a VGG sees in them.

A teacher is any callable, for instance another module of ours: plain to separable convolutions is one case. One step at
a time is made here; when to end, and what is written, is left to the caller.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from vggquant.models.arbitrary import STYLE_SIDE, Predictor, Transfer, seen
from vggquant.models.devices import computes_bf16
from vggquant.models.features import Features
from vggquant.models.layout import lay_channels_last
from vggquant.networks.arbitrary import ArbitraryNetwork
from vggquant.networks.vgg import CONTENT_LAYER, STYLE_LAYERS
from vggquant.style.losses import activations_of, gram_matrices
from vggquant.style.options import Precision
from vggquant.training.normalising import Module, folded, normalised
from vggquant.training.views import Pictures

Predict = Callable[[Tensor], Tensor]  # from styles (N, 3, 256, 256) in [0, 1] to numbers (N, 100)
Paint = Callable[[Tensor, Tensor], Tensor]  # from contents (N, 3, H, W) in [0, 1] and numbers (N, 100) to paintings

PAINTED = 4  # one in so many styles is painted by a teacher
WARMING, COLD = 0.03, 0.1  # share of a training in which the learning rate rises, and the share it begins with
MOST_GRADIENT = 1.0  # norm of all gradients together, beyond which they are scaled down
_CHUNK = 16  # pictures that are looked at together while samples are made
_LAYERS = (*STYLE_LAYERS[:4], CONTENT_LAYER, STYLE_LAYERS[4])


@dataclass(frozen=True)
class DistilOptions:
    """How a network is distilled.

    Args:
        batch: Pictures of a step.
        learning_rate: Of Adam, at its highest.
        side: Of contents, in pixels; for a transfer network only, as is all that follows.
        style_side: Of styles when their strokes are compared, in pixels.
        scales: Of a content to its photograph.
        contents: How many samples of contents are made, once, and painted again and again.
        styles: How many samples of styles.
        own: Share of pictures that are painted in their own style, so that photographs can be reconstructed.
        blended: Share of pictures that are painted in a style between two.
        pixel_weight: Factor of the mean squared difference from the teacher's painting.
        content_weight: Factor of the content loss, ‖F − F*‖² / ‖F*‖² at relu4_2.
        style_weight: Factor of the style loss, the mean of ‖G − G*‖² / ‖G*‖² over relu1_1 … relu5_1.
    """

    batch: int = 16
    learning_rate: float = 4e-3
    side: int = 256
    style_side: int = 448
    scales: tuple[float, float] = (0.8, 1.6)
    contents: int = 4096
    styles: int = 1024
    own: float = 0.15
    blended: float = 0.15
    pixel_weight: float = 100.0
    content_weight: float = 0.5
    style_weight: float = 2.0


class _Descent:
    """Adam, whose learning rate rises, and then falls like a cosine.

    Args:
        module: What is trained.
        highest: Learning rate.
    """

    def __init__(self, module: nn.Module, highest: float) -> None:
        self._module, self._highest = module, highest
        self._optimizer = torch.optim.Adam(module.parameters(), lr=highest, betas=(0.9, 0.99))

    def step(self, loss: Tensor, progress: float) -> None:
        """Change the weights a little.

        Args:
            loss: What is to become less.
            progress: How much of the training is done, from 0 to 1.
        """
        warm = COLD + (1 - COLD) * min(1, progress / WARMING)
        for group in self._optimizer.param_groups:
            group["lr"] = self._highest * warm * (1 + math.cos(math.pi * min(1, progress))) / 2
        self._optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self._module.parameters(), MOST_GRADIENT)
        self._optimizer.step()


class PredictorDistillation:
    """A predictor that learns the numbers of a teacher.

    Args:
        network: Its shape.
        teacher: Gives numbers of styles.
        paintings: Styles to learn from.
        photographs: More of them: a photograph has a style too, and mixtures with it have others.
        options: Batch and learning rate.
        painter: A teacher whose paintings, of some of the styles in the manner of others, are styles to learn from too.
    """

    def __init__(
        self,
        network: ArbitraryNetwork,
        teacher: Predict,
        paintings: Pictures,
        photographs: Pictures,
        options: DistilOptions,
        painter: Paint | None = None,
    ) -> None:
        self._teacher, self._options, self._painter = teacher, options, painter
        self._paintings, self._photographs = paintings, photographs
        made = normalised(Predictor(network), but=("code",))
        self._trained = _placed(made, paintings.device)
        self._descent = _Descent(self._trained, options.learning_rate)

    @property
    def predictor(self) -> Predictor:
        """What has been reached."""
        return folded(self._trained)

    def step(self, progress: float) -> dict[str, Tensor]:
        """Look at some styles, and change the weights a little; gives the loss, and its share of their variance."""
        views = style_views(self._paintings, self._photographs, self._options.batch)
        with torch.no_grad():
            wanted = self._teacher(views)
            if self._painter is not None:
                views = torch.cat([self._painted(views, wanted), views[len(views) // PAINTED :]])
                wanted = self._teacher(views)
        with _half(views.device):
            loss = mse_loss(self._trained(views).float(), wanted)
        self._descent.step(loss, progress)
        return {"code": loss.detach(), "share": loss.detach() / wanted.var(0).mean()}

    def _painted(self, views: Tensor, codes: Tensor) -> Tensor:
        """Some of the views, painted in the styles of others, more or less."""
        assert self._painter is not None
        count = len(views) // PAINTED
        strength = self._paintings.uniform(count, 1, least=0.5, most=1.2)
        return self._painter(views[:count], torch.lerp(codes[:count], codes.roll(1, 0)[:count], strength))


class TransferDistillation:
    """A transfer network that learns the pictures of a teacher.

    Args:
        network: Its shape.
        teacher: Paints contents under numbers.
        samples: Contents and styles to learn from.
        options: Of the distillation.
        start: A transfer network of the same filters to begin with, see `begin_with`.
    """

    def __init__(
        self,
        network: ArbitraryNetwork,
        teacher: Paint,
        samples: Samples,
        options: DistilOptions,
        start: Transfer | None = None,
    ) -> None:
        self._teacher, self._samples, self._options = teacher, samples, options
        made = Transfer(network)
        if start is None:
            normalised(made)
        else:
            begin_with(made, start)
        self._trained = _placed(made, samples.contents.device)
        self._descent = _Descent(self._trained, options.learning_rate)

    @property
    def transfer(self) -> Transfer:
        """What has been reached."""
        return folded(self._trained)

    def step(self, progress: float) -> dict[str, Tensor]:
        """Paint some pictures, and change the weights a little; gives the terms of the loss, without their weights."""
        options, samples = self._options, self._samples
        batch = samples.batch(options)
        with torch.no_grad():
            wanted = self._teacher(batch.contents, batch.codes)
        with _half(wanted.device):
            painted = self._trained(batch.contents, batch.codes).float()
        terms = {"pixel": mse_loss(painted, wanted)}
        loss = options.pixel_weight * terms["pixel"]
        if samples.vgg is not None:
            terms |= samples.losses(painted, batch)
            loss = loss + options.content_weight * terms["content"] + options.style_weight * terms["style"]
        self._descent.step(loss, progress)
        return {name: term.detach() for name, term in terms.items()}


@dataclass(frozen=True)
class _Batch:
    """Contents and the numbers that they are to be painted under.

    Args:
        chosen: Which contents.
        styles: Which styles.
        alone: 1 for those that are painted in just this style, else 0.
        contents: (N, 3, H, W).
        codes: (N, 100).
    """

    chosen: Tensor
    styles: Tensor
    alone: Tensor
    contents: Tensor
    codes: Tensor


class Samples:
    """Contents and styles with their numbers and with what a VGG sees in them, made once and used again and again.

    Args:
        predict: Gives numbers of styles.
        vgg: Gives activations by layer name; if not given, a distillation compares pixels alone.
        paintings: Styles to learn from.
        photographs: Contents.
        options: How many are made, and of which size.
    """

    def __init__(
        self,
        predict: Predict,
        vgg: Features | None,
        paintings: Pictures,
        photographs: Pictures,
        options: DistilOptions,
    ) -> None:
        self.vgg, self._random = vgg, photographs
        self._precision: Precision = "bf16" if computes_bf16(photographs.device) else "float32"
        contents, features, own_codes, codes, grams = [], [], [], [], []
        with torch.no_grad():
            for count in _chunks(options.contents):
                views = (255 * photographs.crops(count, options.side, options.scales)).round()
                contents.append(views.byte())
                own_codes.append(predict(seen(views / 255)).float())
                if vgg is not None:
                    features.append(self._seen(views / 255, (CONTENT_LAYER,))[CONTENT_LAYER].bfloat16())
            for count in _chunks(options.styles):
                views = paintings.recolored(paintings.shares(count, options.style_side, 0.5), 0.3)
                codes.append(predict(seen(views)).float())
                if vgg is not None:
                    grams.append(gram_matrices(self._seen(views, STYLE_LAYERS), STYLE_LAYERS))
        self.contents, self._own_codes, self._codes = torch.cat(contents), torch.cat(own_codes), torch.cat(codes)
        self._features = torch.cat(features) if features else None
        self._grams = {layer: torch.cat([gram[layer] for gram in grams]) for layer in STYLE_LAYERS if grams}

    def batch(self, options: DistilOptions) -> _Batch:
        """Some of them: most contents with another's style, some with their own, some with a style between two."""
        random = self._random
        chosen, styles = (
            random.chosen(options.batch, len(self.contents)),
            random.chosen(options.batch, len(self._codes)),
        )
        kind, amount = random.uniform(options.batch), random.uniform(options.batch, 1)
        own, blended = kind < options.own, kind > 1 - options.blended
        others = torch.where(amount < 0.5, self._own_codes[chosen], self._codes[styles.roll(1)])
        codes = torch.where(own[:, None], self._own_codes[chosen], self._codes[styles])
        codes = torch.where(blended[:, None], torch.lerp(codes, others, (2 * amount) % 1), codes)
        return _Batch(chosen, styles, (~(own | blended)).float(), self.contents[chosen].float() / 255, codes)

    def losses(self, paintings: Tensor, batch: _Batch) -> dict[str, Tensor]:
        """How far paintings are from their contents, and from their styles where they have one of these."""
        assert self._features is not None
        found = self._seen(paintings, _LAYERS)
        content = _relative(found[CONTENT_LAYER], self._features[batch.chosen])
        grams = gram_matrices(found, STYLE_LAYERS)
        layers = [_relative(grams[layer], self._grams[layer][batch.styles]) for layer in STYLE_LAYERS]
        style = (batch.alone * torch.stack(layers).mean(0)).sum() / batch.alone.sum().clamp_min(1)
        return {"content": content.mean(), "style": style}

    def _seen(self, views: Tensor, layers: Sequence[str]) -> Mapping[str, Tensor]:
        assert self.vgg is not None
        return activations_of(self.vgg, views, layers, self._precision)


def style_views(paintings: Pictures, photographs: Pictures, count: int) -> Tensor:
    """Styles as a predictor sees them (N, 3, 256, 256): paintings, one in four a photograph, many changed."""
    views = paintings.shares(count, STYLE_SIDE, 0.35)
    plain = photographs.shares(count, STYLE_SIDE, 0.5)
    photographed = paintings.uniform(count, 1, 1, 1) < 1 / 4
    views = paintings.recolored(torch.where(photographed, plain, views), 0.5)
    return paintings.mixed(views, torch.where(photographed, views.roll(1, 0), plain).roll(1, 0), 0.35)


def begin_with(transfer: Transfer, start: Transfer) -> None:
    """Give a transfer network the weights of another one of the same filters, as far as they fit.

    A plain convolution becomes a separable one by what is nearest to it: for each channel before it, the kernel that
    the channels behind it have most in common.
    """
    state, found = start.state_dict(), transfer.state_dict()
    for name in found:
        if name in state:
            found[name] = state[name]
        elif name.endswith("depthwise.weight"):
            layer = name.removesuffix("depthwise.weight")
            plain = state[f"{layer}convolution.weight"].float()
            outside, inside, kernel, _ = plain.shape
            left, strength, right = torch.linalg.svd(plain.permute(1, 0, 2, 3).flatten(2), full_matrices=False)
            root = strength[:, :1].sqrt()
            found[name] = (root * right[:, 0]).view(inside, 1, kernel, kernel)
            found[f"{layer}pointwise.weight"] = (root * left[:, :, 0]).T.reshape(outside, inside, 1, 1)
    transfer.load_state_dict(found)


def _relative(found: Tensor, expected: Tensor) -> Tensor:
    """‖found − expected‖² / ‖expected‖² of each of a batch."""
    wide = expected.float().flatten(1)
    return (found.float().flatten(1) - wide).square().sum(1) / wide.square().sum(1)


def _chunks(count: int) -> Iterator[int]:
    """How many pictures at a time make so many."""
    for start in range(0, count, _CHUNK):
        yield min(_CHUNK, count - start)


def _half(device: torch.device) -> AbstractContextManager[object]:
    """Where operations that may be coarser are in bfloat16, on a GPU that computes in it."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda" and computes_bf16(device))


def _placed(module: Module, device: torch.device) -> Module:
    """A module in training on a device, on a GPU with its weights laid out channels last, as it computes fastest."""
    module.to(device).train()
    if device.type == "cuda":
        lay_channels_last(module)
    return module
