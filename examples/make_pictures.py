"""Draw the example pictures, `landscape.jpg`, `swirl.jpg` and the page's own, which are the same on every run.

    python examples/make_pictures.py [FOLDER]

NumPy computes and Pillow draws. The pictures belong to this repository and are under its licence, MIT.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

Field = npt.NDArray[np.float64]


def noise(rng: np.random.Generator, height: int, width: int, scale: float, octaves: int = 5) -> Field:
    """Make smooth noise from −1 to 1: a sum of random grids, each twice as fine and half as strong as the last."""
    total = np.zeros((height, width))
    for octave in range(octaves):
        cells = (max(2, round(height / scale * 2**octave)), max(2, round(width / scale * 2**octave)))
        grid = Image.fromarray(rng.uniform(-1, 1, cells).astype(np.float32))
        total += np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC)) / 2**octave
    smooth: Field = total / np.abs(total).max()
    return smooth


def mix(a: npt.ArrayLike, b: npt.ArrayLike, t: Field) -> Field:
    """Blend two colours, or pictures, by a field of weights."""
    weight = np.clip(t, 0, 1)[..., None]
    return np.asarray(a) * (1 - weight) + np.asarray(b) * weight


def landscape(width: int = 640, height: int = 448) -> Image.Image:
    """Draw a low sun over mountains and a lake, with firs on the shore."""
    rng = np.random.Generator(np.random.PCG64(19))
    y, x = np.mgrid[0:height, 0:width].astype(float)
    y, x = y / height, x / width
    horizon, sun_x, sun_y = 0.60, 0.64, 0.40

    sky = mix((46, 84, 148), (250, 196, 130), (y / horizon) ** 1.6)
    clouds = np.clip(noise(rng, height, width, 260) + 0.9 * noise(rng, height, width, 70) * y, 0, 1)
    sky = mix(sky, (255, 226, 196), 0.75 * clouds * (1 - 0.4 * y))
    distance = np.hypot((x - sun_x) * width / height, y - sun_y)
    sky = mix(sky, (255, 236, 190), 0.9 * np.exp(-((distance / 0.16) ** 1.3)))
    sky = mix(sky, (255, 250, 226), np.clip((0.045 - distance) * 300, 0, 1))

    scene = sky
    ridges = ((0.40, 0.16, 170, (120, 134, 172)), (0.47, 0.13, 120, (84, 104, 130)), (0.54, 0.08, 80, (46, 74, 78)))
    for level, rise, scale, colour in ridges:
        crest = level - rise * noise(rng, 1, width, scale, 7)
        inside = np.clip((y - crest) * height / 1.5, 0, 1)
        relief = noise(rng, height, width, 80, 7)
        slope = 0.5 * relief + 26 * np.gradient(relief, axis=1)  # lit from the side
        shade = mix(np.array(colour) * 0.72, np.minimum(np.array(colour) * 1.35 + 24, 255), 0.5 - 0.5 * slope)
        if level < 0.45:  # snow on the far peaks
            shade = mix(shade, (244, 240, 244), np.clip((crest + 0.07 - y) * 26 + 0.8 * slope, 0, 1))
        shade = mix(shade, (236, 190, 150), 0.45 * np.clip((y - crest) * 3.2, 0, 1))  # haze in the valleys
        scene = mix(scene, shade, inside)

    # the lake mirrors what stands above the horizon, in ripples that widen towards the viewer
    depth = np.clip((y - horizon) / (1 - horizon), 0, 1)
    ripple = (
        noise(rng, height, width, 22, 3) * (0.006 + 0.05 * depth) + np.sin(260 * depth**0.6 + 9 * x) * 0.008 * depth
    )
    rows = np.clip((2 * horizon - y - ripple) * height, 0, height - 1).astype(int)
    columns = np.clip(x * width + 260 * ripple, 0, width - 1).astype(int)
    water = mix(scene[rows, columns] * np.array((0.72, 0.80, 0.90)), (24, 58, 84), 0.25 + 0.35 * depth)
    scene = mix(scene, water, np.clip((y - horizon) * height, 0, 1))

    shore = 0.90 - 0.07 * np.cos(3.0 * (x - 0.12)) + 0.018 * noise(rng, 1, width, 60)
    grass = mix((38, 56, 30), (128, 124, 56), 0.5 + 0.5 * noise(rng, height, width, 14, 3))
    scene = mix(scene, grass, np.clip((y - shore) * height / 2, 0, 1))

    image = Image.fromarray(np.clip(scene, 0, 255).astype(np.uint8))
    big = image.resize((2 * width, 2 * height), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(big)
    for place in (0.03, 0.075, 0.12, 0.155, 0.21, 0.86, 0.915, 0.955, 0.99):
        tall = float(rng.uniform(0.26, 0.50)) * (1.25 - 1.2 * min(place, 1 - place))
        fir(
            pen,
            rng,
            place * 2 * width,
            float(shore[0, min(int(place * width), width - 1)] + 0.03) * 2 * height,
            tall * 2 * height,
        )
    return big.resize((width, height), Image.Resampling.LANCZOS)


def fir(pen: ImageDraw.ImageDraw, rng: np.random.Generator, x: float, foot: float, tall: float) -> None:
    """Draw a fir, branch by branch from the foot up, lit from the right."""
    pen.line([(x, foot), (x, foot - tall)], fill=(44, 32, 24), width=max(2, int(tall / 40)))
    for t in np.linspace(0.06, 1, int(tall / 3)):
        reach = tall * 0.21 * (1 - t) * rng.uniform(0.7, 1.1) + 2
        level = foot - tall * t
        for side, colour in ((-1, (18, 38, 30)), (1, (46, 68, 38))):
            shade = tuple(int(c * rng.uniform(0.75, 1.25)) for c in colour)
            pen.line([(x, level), (x + side * reach, level + reach * 0.42)], fill=shade, width=max(2, int(tall / 60)))


def swirl(width: int = 512, height: int = 512) -> Image.Image:
    """Draw brush strokes that follow eddies, in blues and golds."""
    rng = np.random.Generator(np.random.PCG64(16))
    scale = 2
    w, h = width * scale, height * scale
    eddies = [(0.30, 0.30, 0.20, 1.0), (0.74, 0.24, 0.13, -1.0), (0.68, 0.68, 0.24, 1.0), (0.18, 0.80, 0.13, -1.0)]
    tone = noise(rng, h, w, 300 * scale / 2, 4)
    canvas = Image.new("RGB", (w, h), (26, 42, 92))
    pen = ImageDraw.Draw(canvas)
    night = np.array([(14, 26, 70), (30, 62, 132), (58, 112, 176), (128, 178, 204), (214, 226, 206)], float)
    gold = np.array([(148, 84, 22), (226, 150, 34), (250, 204, 76), (255, 240, 176)], float)
    for thickness, length, count in ((26, 90, 2200), (15, 70, 5200), (8, 52, 7800)):
        for _ in range(count):
            px, py = rng.uniform(-0.05, 1.05, 2)
            brightness = 0.5 + 0.5 * tone[int(np.clip(py, 0, 0.999) * h), int(np.clip(px, 0, 0.999) * w)]
            glow = max(np.exp(-(((px - cx) ** 2 + (py - cy) ** 2) / (0.16 * r))) for cx, cy, r, _ in eddies)
            ramp = gold if rng.uniform() < glow**2 * 0.95 else night
            place = np.clip(brightness + rng.normal(0, 0.22) + 0.2 * glow, 0, 1) * (len(ramp) - 1)
            low = min(int(place), len(ramp) - 2)
            colour = ramp[low] + (ramp[low + 1] - ramp[low]) * (place - low) + rng.normal(0, 9, 3)
            points = [(px * w, py * h)]
            for _ in range(6):
                vx, vy = 0.35, 0.10 * np.sin(7 * px)
                for cx, cy, r, turn in eddies:
                    dx, dy = px - cx, py - cy
                    pull = 1.8 * np.exp(-(dx * dx + dy * dy) / (2 * r * r)) / r
                    vx, vy = vx - turn * dy * pull, vy + turn * dx * pull
                speed = np.hypot(vx, vy) + 1e-9
                px, py = px + vx / speed * length / 6 / w * scale, py + vy / speed * length / 6 / h * scale
                points.append((px * w, py * h))
            shade = tuple(int(c) for c in np.clip(colour, 0, 255))
            pen.line(points, fill=shade, width=thickness, joint="curve")
            # a ridge of paint along the stroke catches the light
            ridge = tuple(int(c) for c in np.clip(colour * 1.18 + 8, 0, 255))
            pen.line(
                [(a - thickness / 5, b - thickness / 5) for a, b in points], fill=ridge, width=max(1, thickness // 5)
            )
    return canvas.filter(ImageFilter.GaussianBlur(0.8)).resize((width, height), Image.Resampling.LANCZOS)


def page_example() -> Image.Image:
    """The landscape, small enough for the page of `vggquant page`."""
    return landscape().resize((512, 358), Image.Resampling.LANCZOS)


def page_style(swirls: Image.Image) -> Image.Image:
    """The swirls, small enough for the page of `vggquant page`."""
    return swirls.resize((256, 256), Image.Resampling.LANCZOS)


def main() -> None:
    """Write the pictures."""
    here = Path(__file__).parent
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else here
    page = folder if len(sys.argv) > 1 else here.parent / "vggquant" / "page"
    page_example().save(page / "example.jpg", quality=80, optimize=True)
    swirls = swirl()
    page_style(swirls).save(page / "style.jpg", quality=60, optimize=True)
    for name, picture in (("landscape", landscape()), ("swirl", swirls)):
        picture.save(folder / f"{name}.jpg", quality=90)
        print(f"{folder / name}.jpg: {picture.width} × {picture.height}")


if __name__ == "__main__":
    main()
