"""Pictures on a device, and random views of many of them at once: crops, other colours, mixtures.

Pictures are kept in bytes, and all views of a batch are made by a few operations, so that a GPU need not wait. What is
learnt from views is left to others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample

from vggquant.pictures.colors import LUMA

FINER = 2  # times as finely as a view that pictures are looked up, then averaged, so that little aliases


class Pictures:
    """Pictures of several sizes, kept together on a device.

    Args:
        pictures: Each (3, H, W), RGB in bytes.
        device: Where.
        seed: Of all that is random.
    """

    def __init__(self, pictures: Sequence[Tensor], device: torch.device | str, seed: int = 0) -> None:
        self.device = torch.device(device)
        self._random = torch.Generator(self.device).manual_seed(seed)
        height, width = (max(picture.shape[axis] for picture in pictures) for axis in (1, 2))
        kept = torch.zeros(len(pictures), 3, height, width, dtype=torch.uint8)
        for place, picture in zip(kept, pictures, strict=True):
            place[:, : picture.shape[1], : picture.shape[2]] = picture
        self._kept = kept.to(self.device)
        self._sizes = torch.tensor([tuple(picture.shape[1:]) for picture in pictures], device=self.device)
        self._whole = torch.tensor([[[height], [width]]], device=self.device)
        # made once, for what is moved to a GPU makes it wait
        self._identity = torch.eye(3, device=self.device)
        self._grey = torch.tensor(LUMA, device=self.device).expand(3, 3)
        self._cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], device=self.device) / math.sqrt(3)

    def __len__(self) -> int:
        return len(self._kept)

    def uniform(self, count: int, *columns: int, least: float = 0.0, most: float = 1.0) -> Tensor:
        """Random numbers (count, …) between two bounds."""
        shape = (count, *columns)
        return least + (most - least) * torch.rand(shape, generator=self._random, device=self.device)

    def chosen(self, count: int, among: int | None = None) -> Tensor:
        """Random integers (count,), of pictures if nothing else is said."""
        most = len(self) if among is None else among
        return torch.randint(most, (count,), generator=self._random, device=self.device)

    def crops(self, count: int, side: int, scales: tuple[float, float]) -> Tensor:
        """Square crops of random pictures, each at a random scale as far as the picture is large enough.

        Args:
            count: How many.
            side: In pixels.
            scales: Of a crop to its picture, each as likely in its logarithm as the others.

        Returns:
            (count, 3, side, side), in [0, 1].
        """
        numbers = self.chosen(count)
        scale = self.uniform(count, 1, least=math.log(scales[0]), most=math.log(scales[1])).exp()
        sizes = self._sizes[numbers].float()
        taken = torch.minimum(side / scale, sizes.amin(1, keepdim=True)).expand_as(sizes)
        return self._looked_up(numbers, taken, side)

    def shares(self, count: int, side: int, least: float) -> Tensor:
        """Random pictures, or parts of them, as squares: whole ones are distorted as a style's picture is.

        Args:
            count: How many.
            side: In pixels.
            least: Share of the height and of the width of a picture, at least; every third picture is whole.

        Returns:
            (count, 3, side, side), in [0, 1].
        """
        numbers = self.chosen(count)
        share = self.uniform(count, 2, least=least)
        share = torch.where(self.uniform(count, 1) < 1 / 3, 1.0, share)
        return self._looked_up(numbers, share * self._sizes[numbers], side)

    def _looked_up(self, numbers: Tensor, taken: Tensor, side: int) -> Tensor:
        """Parts of pictures, of height and width `taken` (N, 2) in pixels, somewhere, every other one mirrored."""
        sizes = self._sizes[numbers].float()
        start = self.uniform(len(numbers), 2) * (sizes - taken)
        steps = (torch.arange(FINER * side, device=self.device) + 0.5) / (FINER * side)
        places = (start[:, :, None] + taken[:, :, None] * steps).clamp(0.5)
        places = torch.minimum(places, sizes[:, :, None] - 0.5)  # (N, 2, FINER × side)
        rows, columns = (2 * places / self._whole - 1).unbind(1)
        columns = torch.where(self.uniform(len(numbers), 1) < 0.5, columns, columns.flip(1))
        shape = (len(numbers), len(steps), len(steps))
        grid = torch.stack([columns[:, None, :].expand(shape), rows[:, :, None].expand(shape)], 3)
        found = grid_sample(self._kept[numbers].float() / 255, grid, align_corners=False)
        return avg_pool2d(found, FINER)

    def recolored(self, views: Tensor, share: float) -> Tensor:
        """A share of views (N, 3, H, W) in other colours: turned in hue, paler or stronger, brighter or darker."""
        count, identity = len(views), self._identity
        angle = self.uniform(count, 1, 1, least=-math.pi, most=math.pi) * self.uniform(count, 1, 1) ** 2
        turned = 1 / 3 + angle.cos() * (identity - 1 / 3) + angle.sin() * self._cross  # about the axis of greys
        strength = self.uniform(count, 1, 1, least=0.3, most=1.6)
        contrast = self.uniform(count, 1, 1, least=0.6, most=1.3)
        colors = contrast * (strength * identity + (1 - strength) * self._grey) @ turned
        middle = self.uniform(count, 3, 1, least=-0.1, most=0.1) + 0.5
        gamma = self.uniform(count, 1, 1, least=-0.5, most=0.5).exp()
        changed = colors @ (views.flatten(2).clamp(1e-3, 1) ** gamma - 0.5) + middle
        changed = changed.clamp(0, 1).view_as(views)
        return torch.where(self.uniform(count, 1, 1, 1) < share, changed, views)

    def mixed(self, views: Tensor, others: Tensor, share: float) -> Tensor:
        """A share of views mixed with others of the same shape: half of these laid over, half beside one another."""
        count, side = len(views), views.shape[2]
        part = self.uniform(count, 1, 1, 1)
        angle = self.uniform(count, 1, 1, 1, most=2 * math.pi)
        steps = torch.linspace(-0.5, 0.5, side, device=self.device)
        distance = angle.cos() * steps[None, None, :, None] + angle.sin() * steps[None, None, None, :]
        beside = (distance > part - 0.5).float()
        amount = torch.where(self.uniform(count, 1, 1, 1) < 0.5, beside, part)
        amount = torch.where(self.uniform(count, 1, 1, 1) < share, amount, 1.0)
        return torch.lerp(others, views, amount)
