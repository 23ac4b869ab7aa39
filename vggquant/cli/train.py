"""`vggquant train`: its options and its report; the training is left to `training`."""

from __future__ import annotations

import dataclasses
from typing import Any

import click

from vggquant.cli.options import FILE, FOLDER, PAINTER, Word, examples, force_option, quiet_option
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
@click.option(
    "--alpha",
    type=float,
    metavar="NUMBER",
    default=DEFAULTS.alpha,
    show_default=True,
    help="Width multiplier: the share of the network's filters that are kept.",
)
@click.option("--blocks", type=int, metavar="N", help="Residual blocks.  [default: 3 of tiny, 5 of johnson]")
@click.option(
    "--steps",
    type=click.IntRange(1),
    metavar="N",
    default=DEFAULTS.steps,
    show_default=True,
    help="How often the weights are changed.",
)
@click.option(
    "--size", type=int, metavar="N", default=DEFAULTS.size, show_default=True, help="Side of the crops, in pixels."
)
@click.option(
    "--batch",
    type=click.IntRange(1),
    metavar="N",
    default=DEFAULTS.batch,
    show_default=True,
    help="Crops that each step looks at.",
)
@click.option(
    "--style-pixels",
    type=int,
    metavar="N",
    default=DEFAULTS.style_pixels,
    show_default=True,
    help="Area of the style. Strokes appear as large as they are in it.",
)
@click.option(
    "--content-weight",
    type=float,
    metavar="NUMBER",
    default=DEFAULTS.content_weight,
    show_default=True,
    help="How much the content of the photographs counts.",
)
@click.option(
    "--style-weight",
    type=float,
    metavar="NUMBER",
    default=DEFAULTS.style_weight,
    show_default=True,
    help="How much the style counts.",
)
@click.option(
    "--color-weight",
    type=float,
    metavar="NUMBER",
    default=DEFAULTS.color_weight,
    show_default=True,
    help="How much the style's colours count.",
)
@click.option(
    "--tv-weight",
    type=float,
    metavar="NUMBER",
    default=DEFAULTS.tv_weight,
    show_default=True,
    help="How much smoothness counts (total variation).",
)
@click.option(
    "--learning-rate",
    type=float,
    metavar="NUMBER",
    default=DEFAULTS.learning_rate,
    show_default=True,
    help="Adam's, at its highest.",
)
@click.option(
    "--precision",
    type=Word(PRECISIONS),
    default=DEFAULTS.precision,
    show_default=True,
    help="What the VGG computes in; auto is bf16 where the processor has it.",
)
@click.option("--seed", type=int, metavar="N", default=DEFAULTS.seed, show_default=True, help="Of all that is random.")
@click.option("--bits", metavar="BITS", help="Bits per code, 1-8, or rules as for pack.  [default: 8]")
@click.option("--max-size", metavar="SIZE", help="Instead, the largest size of the file, such as 17KB.")
@click.option("--start", type=PAINTER, help="A network of the same shape to begin with, such as starry.")
@click.option("--checkpoint", type=FILE, help="What training goes on from later, kept.  [default: OUT.checkpoint]")
@click.option("--resume", type=FILE, help="Go on from a checkpoint, exactly; with the same options.")
@click.option("--preview", type=FILE, help="Picture to write on the way: the first photograph, painted.")
@click.option(
    "--every",
    type=click.IntRange(1),
    metavar="N",
    default=EVERY,
    show_default=True,
    help="Steps from one checkpoint and preview to the next.",
)
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
