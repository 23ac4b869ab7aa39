"""Generated pictures whose statistics are those of photographs, made from a seed by NumPy alone.

They are dead leaves, after Lee, Mumford & Huang, "Occlusion models for natural images", IJCV 41 (2001): objects hide
one another, and their sizes fall off as 1/r³. Here each object also has colours, shading and a texture. The pictures
stand in for photographs where the features of changed weights are measured, so that no photographs need be shipped.
What is done with them is left to others.

Every machine and every version of NumPy makes the same bytes, because the arithmetic uses integers and exact square
roots only, and random numbers come from a raw PCG64 stream. Lengths are in 256ths of a pixel and colours in 256ths of
a grey level. Shares, chances, amplitudes and directions are in 256ths of one.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vggquant.errors import OptionError

Ints = npt.NDArray[np.int64]

MIN_SIDE = 8  # pixels
_LATTICE = 64  # noise repeats after this many cells


class _Kind(NamedTuple):
    """How one kind of scene differs from another."""

    objects: int
    smallest: int  # radius of the smallest object, in a picture of 256 × 256 pixels
    horizons: int  # strips of ground, hills or water across the background
    upright: int  # chance that an object stands upright
    round: int  # chance of an ellipse; the others are tapered boxes
    hollow: int  # chance that only the outline is drawn
    slender: int  # the most by which an object's length exceeds its width
    bend: int  # how far outlines and textures are bent
    texture: int  # contrast of the textures
    crowding: int  # places tried for each object; the more, the denser the crowds and the emptier the rest
    saturation: int


_KINDS = (
    _Kind(230, 1000, 3, 100, 130, 16, 1000, 256, 320, 6, 200),  # landscape
    _Kind(90, 2000, 0, 60, 220, 40, 700, 160, 160, 5, 200),  # portrait
    _Kind(280, 1200, 2, 240, 24, 24, 1500, 16, 360, 3, 256),  # town
    _Kind(480, 900, 1, 40, 110, 16, 3500, 300, 360, 1, 220),  # thicket
    _Kind(180, 1500, 1, 90, 140, 32, 800, 60, 280, 3, 330),  # still life
    _Kind(320, 900, 0, 100, 100, 110, 5000, 140, 200, 2, 280),  # drawing
)


class _Leaf(NamedTuple):
    """Where one object lies, and its shape."""

    y: int  # the centre
    x: int
    along: int  # half the length
    across: int  # half the width
    direction: tuple[int, int]  # in which the length lies, x and y
    is_round: bool
    is_hollow: bool


def generated_pictures(count: int, height: int = 256, width: int = 256, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Make pictures that a network responds to much as it does to photographs.

    Args:
        count: How many pictures. The first ones do not depend on how many follow.
        height: In pixels, at least `MIN_SIDE`.
        width: In pixels, at least `MIN_SIDE`.
        seed: At least 0; each seed gives other pictures.

    Returns:
        uint8, (count, H, W, 3), RGB.

    Raises:
        OptionError: `count` is 0, a side is too short, or the seed is negative.
    """
    given = {"count": (count, 1), "height": (height, MIN_SIDE), "width": (width, MIN_SIDE), "seed": (seed, 0)}
    for name, (value, least) in given.items():
        if value < least:
            raise OptionError(f"{least} or more", value, "choose a larger one", tensor=name)
    pictures = np.empty((count, height, width, 3), np.uint8)
    for index in range(count):
        pictures[index] = _Scene(_Draws(seed, index), _KINDS[index % len(_KINDS)], height, width).picture()
    return pictures


class _Draws:
    """Random integers made from raw bits, since NumPy's own distributions may change between its versions."""

    def __init__(self, seed: int, index: int) -> None:
        self._bits = np.random.PCG64([seed, index])

    def between(self, low: int, high: int, *shape: int) -> Ints:
        """Integers uniform from `low` to `high`, both included."""
        raw = np.asarray(self._bits.random_raw(math.prod(shape)), np.uint64) >> np.uint64(32)
        values: Ints = low + (raw.astype(np.int64) * (high - low + 1) >> 32)
        return values.reshape(shape)

    def one(self, low: int, high: int) -> int:
        return int(self.between(low, high))

    def bell(self, spread: int) -> int:
        """The sum of three uniform draws, which is nearly normal with standard deviation `spread`."""
        return int(self.between(-spread, spread, 3).sum())

    def chance(self, share: int) -> bool:
        return self.one(0, 255) < share

    def direction(self) -> tuple[int, int]:
        u, v = self.one(1, 1024), self.one(-1024, 1024)
        length = math.isqrt(u * u + v * v)
        return 256 * u // length, 256 * v // length


class _Scene:
    """A canvas, int64 (H, W, 3), and what all objects painted on it share: light, palette, roughness and bends."""

    def __init__(self, draws: _Draws, kind: _Kind, height: int, width: int) -> None:
        self.draws, self.kind, self.height, self.width = draws, kind, height, width
        self.side = math.isqrt(height * width) * 256
        self.y = np.arange(height, dtype=np.int64)[:, None] * 256
        self.x = np.arange(width, dtype=np.int64)[None] * 256
        self.sun = draws.direction()
        self.rough = self.fractal(self.side // 2, draws.one(200, 256))
        self.bends = [self.fractal(self.side // 2, 150) * kind.bend * self.side >> 18 for _ in "yx"]
        self.tint = draws.bell(6 * 256), draws.bell(3 * 256)
        self.palette = [self.colour() for _ in range(5)]
        clouds = self.fractal(self.side, draws.one(110, 180)) * draws.one(0, 256) >> 8
        self.canvas = _mix(self.palette[0], self.palette[1], np.clip(self.y // height + clouds, 0, 256))

    def picture(self) -> npt.NDArray[np.uint8]:
        """Paint the objects from back to front and add grain; uint8, (H, W, 3)."""
        for strip in range(self.kind.horizons):
            self.paint(self.horizon(strip))
        for _ in range(self.kind.objects):
            self.paint(self.leaf())
        grain = self.draws.between(-400, 400, 2, self.height, self.width, 1).sum(axis=0)
        levels: Ints = np.clip(self.canvas + grain, 0, 65535) >> 8
        return levels.astype(np.uint8)

    def fractal(self, coarsest: int, keep: int) -> Ints:
        """Noise in octaves, from cells of size `coarsest` down to cells of two pixels, within ±256; (H, W).

        Each octave has `keep` 256ths of the amplitude of the coarser one before it. At 256, power falls off as 1/f².
        """
        total, amplitude, amplitudes, period = np.zeros((1, 1), np.int64), 256, 0, coarsest
        while period >= 512:
            total = total + amplitude * _value_noise(self.draws, self.y * 256 // period, self.x * 256 // period)
            amplitudes += amplitude
            amplitude, period = amplitude * keep >> 8, period // 2
        return total // amplitudes

    def colour(self) -> Ints:
        """A colour of any brightness, mostly muted; as in nature, yellow–blue varies more than red–green."""
        draws = self.draws
        saturation = self.kind.saturation * (3 if draws.chance(40) else 1)
        light = 138 * 256 + draws.bell(66 * 256)
        yellow = self.tint[0] + draws.bell(22 * saturation)
        red = self.tint[1] + draws.bell(10 * saturation)
        rgb = np.array([light + yellow + red, light + yellow // 4 - red, light - yellow * 5 // 4], np.int64)
        return np.clip(rgb, 8 * 256, 246 * 256)

    def horizon(self, strip: int) -> _Leaf:
        """A box so large that only its upper edge is in the picture."""
        height = self.height * 256
        top = height * (strip + 1) // (self.kind.horizons + 1) + self.draws.bell(height // 12)
        return _Leaf(top + 2 * self.side, self.width * 128, 3 * self.side, 2 * self.side, (256, 0), False, False)

    def leaf(self) -> _Leaf:
        draws, kind = self.draws, self.kind
        # inverts the distribution function of 1/r³
        radius = min(kind.smallest * self.side // (256 * math.isqrt(draws.one(1, 65536))), self.side // 3)
        stretch = math.isqrt(256 * (256 + draws.one(0, draws.one(0, kind.slender))))
        sizes = max(radius * stretch // 256, 128), max(radius * 256 // stretch, 128)
        along, across = sizes if draws.chance(128) else sizes[::-1]
        direction = (256, 0) if draws.chance(kind.upright) else draws.direction()
        places = draws.between(0, self.height * self.width - 1, kind.crowding)
        y, x = divmod(int(places[self.rough.ravel()[places].argmax()]), self.width)
        return _Leaf(y * 256, x * 256, along, across, direction, draws.chance(kind.round), draws.chance(kind.hollow))

    def paint(self, leaf: _Leaf) -> None:
        """Lay one object, sometimes with a shadow, over the canvas."""
        draws = self.draws
        small = min(leaf.along, leaf.across, self.side // 6)
        reach = (math.isqrt(leaf.along**2 + leaf.across**2) + small // 2) // 256 + 2
        row, column = leaf.y // 256, leaf.x // 256
        window = slice(max(row - reach, 0), row + reach + 1), slice(max(column - reach, 0), column + reach + 1)
        centre = min(row, self.height - 1), column
        y, x = self.y[window[0]] - leaf.y, self.x[:, window[1]] - leaf.x
        v, u = (np.clip(bend[window] - bend[centre], -small // 2, small // 2) for bend in self.bends)
        cos, sin = leaf.direction
        p, q = (x + u) * cos + (y + v) * sin >> 8, (y + v) * cos - (x + u) * sin >> 8

        depth = self.depth(leaf, p, q)
        rim = 256 - np.clip(depth * 256 // small, 0, 256)
        slope = (x * self.sun[0] + y * self.sun[1]) // max(leaf.along, leaf.across)
        shade = 256 + (slope * draws.one(0, 80) >> 8) - (rim * rim * draws.one(0, 110) >> 16)
        fill = self.colouring(self.canvas[centre], self.texture(p, q, small)) * shade[..., None] >> 8

        canvas = self.canvas[window]
        if draws.chance(100):
            shadow = np.clip((depth + small // 2) * 256 // small, 0, 256) * draws.one(0, 160) >> 8
            canvas -= canvas * shadow[..., None] >> 8
        blur = max(128, small * draws.one(-128, 64) // 256)  # most edges are as sharp as pixels allow
        canvas += (fill - canvas) * np.clip((depth + blur) * 128 // blur, 0, 256)[..., None] >> 8

    def depth(self, leaf: _Leaf, p: Ints, q: Ints) -> Ints:
        """How far inside the outline each point (p, q) on the object's own axes lies; only about right far from it."""
        small = min(leaf.along, leaf.across)
        if leaf.is_round:
            depth = (256 - _length(p * 256 // leaf.along, q * 256 // leaf.across)) * small >> 8
        else:
            taper = max(self.draws.one(-128, 256), 0)
            half = leaf.along - ((q + leaf.across) * leaf.along // leaf.across * taper >> 9)
            depth = np.minimum(leaf.across - np.abs(q), half - np.abs(p))
        if leaf.is_hollow:
            stroke = max(small // self.draws.one(4, 16), 160)
            depth = stroke - np.abs(depth - stroke)
        return depth

    def colouring(self, around: Ints, texture: Ints) -> Ints:
        """Two colours mixed as a texture says, of which the first takes a little of the colour around; (h, w, 3)."""
        draws = self.draws
        colour = _mix(self.palette[draws.one(0, 4)], around, draws.between(0, 100)) * (256 + draws.bell(40)) >> 8
        other = self.palette[draws.one(0, 4)] if draws.chance(64) else colour * draws.one(40, 400) >> 8
        strength = draws.one(0, draws.one(0, 2 * self.kind.texture))
        return _mix(colour, other, 128 + (texture * strength >> 9))

    def texture(self, p: Ints, q: Ints, small: int) -> Ints:
        """Roughness, fur, stripes, tiles, checks or rings along the object's own axes (p, q), within ±256."""
        draws = self.draws
        period = max(small * 256 >> draws.one(8, 12), 640)
        match draws.one(0, 11):
            case 0 | 1 | 2 | 3:
                top, left = (draws.one(0, n - m) for n, m in zip(self.rough.shape, p.shape, strict=True))
                value = self.rough[top : top + p.shape[0], left : left + p.shape[1]]
            case 4 | 5 | 6:
                value = _value_noise(draws, p * 64 // period, q * 512 // period)
            case 7 | 8:
                value = _wave(p, period)
            case 9:
                value = np.minimum(_wave(p, period), _wave(q, period * draws.one(128, 512) // 256))
            case 10:
                value = _wave(p, period) * _wave(q, period) >> 8
            case _:
                value = _wave(_length(p, q), period)
        contrasty: Ints = np.clip(value * draws.one(256, 1024) >> 8, -256, 256)
        return contrasty


def _value_noise(draws: _Draws, u: Ints, v: Ints) -> Ints:
    """Random values on a lattice, smoothly interpolated, within ±256; (u, v) are in 256ths of a cell."""
    lattice = draws.between(-256, 256, _LATTICE, _LATTICE)
    i, j = u >> 8, v >> 8
    f, g = (t * t * (768 - 2 * t) >> 16 for t in (u & 255, v & 255))  # 3t² − 2t³
    near, far = (
        lattice[row, j % _LATTICE] * (256 - g) + lattice[row, (j + 1) % _LATTICE] * g
        for row in (i % _LATTICE, (i + 1) % _LATTICE)
    )
    noise: Ints = near * (256 - f) + far * f >> 16
    return noise


def _wave(t: Ints, period: int) -> Ints:
    """A triangle wave between ±256."""
    return np.abs(t % period * 1024 // period - 512) - 256


def _length(p: Ints, q: Ints) -> Ints:
    return np.sqrt((p * p + q * q).astype(np.float64)).astype(np.int64)


def _mix(one: Ints, other: Ints, share: Ints) -> Ints:
    """Mix two colours: `one` at share 0, `other` at share 256; (..., 3) for shares of shape (...)."""
    return one + ((other - one) * share[..., None] >> 8)
