"""`vggquant train`: its options and its report; the training is left to `training`."""

from __future__ import annotations

import dataclasses
from typing import Any

import click

from vggquant.cli.options import (
    FILE,
    FOLDER,
    PAINTER,
    Word,
    count_option,
    examples,
    force_option,
    number_option,
    quiet_option,
)
from vggquant.cli.output import echo, echo_notes
from vggquant.cli.progress import progress_bar
from vggquant.networks.johnson import STOCK
from vggquant.style.options import PRECISIONS
from vggquant.training.options import EVERY, TrainingOptions

DEFAULTS = TrainingOptions()


@click.command(
    short_help="Train a network that paints in one style.",
    epilog=examples(
        ("A network of 16 kB, with a preview on the way:", "train STYLE.jpg -o OUT --images PHOTOS --preview OUT.png"),
        ("Go on after Ctrl-C:", "train STYLE.jpg -o OUT --images PHOTOS --resume OUT.checkpoint"),
        (
            "From a network that can paint already, in less time:",
            "train STYLE.jpg -o OUT --images PHOTOS --start starry --steps 800",
        ),
    ),
)
@click.argument("style", type=FILE)
@click.option("-o", "--out", required=True, type=FILE, help="Packed file to write.")
@click.option("--images", type=FOLDER, help="Photographs to train on.  [default: generated pictures]")
@click.option(
    "--network",
    type=Word(tuple(STOCK)),
    default=DEFAULTS.network,
    show_default=True,
    help="tiny, of 12,000 weights at --alpha 0.3, or Johnson's own, of 1.7 million at 1.",
)
@number_option("--alpha", DEFAULTS.alpha, "Width multiplier: the share of the network's filters that are kept.")
@click.option("--blocks", type=int, metavar="N", help="Residual blocks.  [default: 3 of tiny, 5 of johnson]")
@count_option("--steps", DEFAULTS.steps, "How often the weights are changed.")
@count_option("--size", DEFAULTS.size, "Side of the crops, in pixels.")
@count_option("--batch", DEFAULTS.batch, "Crops that each step looks at.")
@count_option("--style-pixels", DEFAULTS.style_pixels, "Area of the style. Strokes appear as large as they are in it.")
@number_option("--content-weight", DEFAULTS.content_weight, "How much the content of the photographs counts.")
@number_option("--style-weight", DEFAULTS.style_weight, "How much the style counts.")
@number_option("--color-weight", DEFAULTS.color_weight, "How much the style's colours count.")
@number_option("--tv-weight", DEFAULTS.tv_weight, "How much smoothness counts (total variation).")
@number_option("--learning-rate", DEFAULTS.learning_rate, "Adam's, at its highest.")
@click.option(
    "--precision",
    type=Word(PRECISIONS),
    default=DEFAULTS.precision,
    show_default=True,
    help="What the VGG computes in; auto is bf16 where the processor has it.",
)
@count_option("--seed", DEFAULTS.seed, "Of all that is random.")
@click.option("--bits", metavar="BITS", help="Bits per code, 1-8, or rules as for pack.  [default: 8]")
@click.option("--max-size", metavar="SIZE", help="Instead, the largest size of the file, such as 17KB.")
@click.option("--start", type=PAINTER, help="A network of the same shape to begin with, such as starry.")
@click.option("--checkpoint", type=FILE, help="What training goes on from later, kept.  [default: OUT.checkpoint]")
@click.option("--resume", type=FILE, help="Go on from a checkpoint, exactly; with the same options.")
@click.option("--preview", type=FILE, help="Picture to write on the way: the first photograph, painted.")
@count_option("--every", EVERY, "Steps from one checkpoint and preview to the next.")
@click.option("--device", metavar="DEVICE", default="cpu", show_default=True, help="Where torch computes, e.g. cuda.")
@force_option
@quiet_option
def train(style: str, out: str, quiet: bool, **given: Any) -> None:
    """Train a network that paints in the manner of the STYLE picture in one pass, and pack it into --out."""
    from vggquant.training.training import train as run

    names = {field.name for field in dataclasses.fields(TrainingOptions)} & given.keys()
    options = TrainingOptions(**{name: given.pop(name) for name in names})
    with progress_bar("training", quiet=quiet) as progress:
        report = run(style, out, options, progress=progress, **given)
    if not report.bytes:  # another process wrote the file
        return
    echo_notes(report.notes, quiet=quiet)
    loss = ", ".join(f"{name} {value:.3f}" for name, value in report.loss.items())
    echo(f"{out}: {report.parameters:,} parameters in {report.bytes:,} bytes; {loss}")
