"""`vggquant train`: its options and its report; the training is left to `training`."""

from __future__ import annotations

import dataclasses
from typing import Any

import click

from vggquant.cli.options import FILE, FOLDER, Decorator, Word, count_option, examples, number_option
from vggquant.cli.progress import progress_bar
from vggquant.cli.training import computing_and_files, echo_report, pictures_to_file, refuse_typed
from vggquant.errors import OptionError
from vggquant.networks.adain import AdaINNetwork
from vggquant.networks.johnson import STOCK
from vggquant.training.options import PARTS, AdaINOptions, TrainingOptions

DEFAULTS, ADAIN = TrainingOptions(), AdaINOptions()
ADAIN_OPTIONS = {field.name for field in dataclasses.fields(AdaINOptions)} - {"rounded"}
PAINTER_OPTIONS = {field.name for field in dataclasses.fields(TrainingOptions)}


def by_network(name: str, kind: type[float], meaning: str) -> Decorator:
    """An option that is a number, whose default is another for adain."""
    option = name.lstrip("-").replace("-", "_")
    defaults = f"[default: {getattr(DEFAULTS, option)}; adain: {getattr(ADAIN, option)}]"
    metavar = "N" if kind is int else "NUMBER"
    return click.option(name, type=kind, metavar=metavar, help=f"{meaning}  {defaults}")


@click.command(
    short_help="Train a network that paints in one pass.",
    epilog=examples(
        ("A network of 16 kB, with a preview on the way:", "train STYLE.jpg -o OUT --images PHOTOS --preview OUT.png"),
        ("Go on after Ctrl-C:", "train STYLE.jpg -o OUT --images PHOTOS --resume OUT.checkpoint"),
        (
            "From a network that can paint already, in less time:",
            "train STYLE.jpg -o OUT --images PHOTOS --start starry --steps 800",
        ),
        (
            "A network that takes any style:",
            "train --network adain -o OUT --images PHOTOS --styles PAINTINGS",
        ),
    ),
)
@click.argument("style", type=FILE, required=False)
@pictures_to_file
@click.option("--styles", type=FOLDER, help="Paintings whose styles adain is trained on, instead of STYLE.")
@click.option(
    "--network",
    type=Word((*STOCK, AdaINNetwork.family)),
    default=DEFAULTS.network,
    show_default=True,
    help="tiny, of 12,000 weights at --alpha 0.3, Johnson's own, of 1.7 million at 1, or adain, which takes any style.",
)
@number_option("--alpha", DEFAULTS.alpha, "Width multiplier: the share of the network's filters that are kept.")
@click.option("--blocks", type=int, metavar="N", help="Residual blocks.  [default: 3 of tiny, 5 of johnson]")
@by_network("--steps", int, "How often the weights are changed.")
@by_network("--size", int, "Side of the crops, in pixels.")
@by_network("--batch", int, "Crops that each step looks at.")
@count_option("--style-pixels", DEFAULTS.style_pixels, "Area of the style. Strokes appear as large as they are in it.")
@number_option("--content-weight", DEFAULTS.content_weight, "How much the content of the photographs counts.")
@by_network("--style-weight", float, "How much the style counts.")
@number_option("--gram-weight", ADAIN.gram_weight, "How much the Gram matrices of the style count in adain.")
@number_option("--color-weight", DEFAULTS.color_weight, "How much the style's colours count.")
@number_option("--tv-weight", DEFAULTS.tv_weight, "How much smoothness counts (total variation).")
@by_network("--learning-rate", float, "Adam's, at its highest.")
@click.option(
    "--part",
    type=Word(PARTS),
    default=ADAIN.part,
    show_default=True,
    help="What of adain is trained: its decoder, or both that and the encoder.",
)
@click.option("--rounded", is_flag=True, help="Train adain with its weights rounded to the width of --bits.")
@computing_and_files("A network of the same shape to begin with, such as starry.")
def train(
    style: str | None, styles: str | None, out: str, network: str, rounded: bool, quiet: bool, **given: Any
) -> None:
    """Train a network that paints in one pass, and pack it into --out.

    Most paint in the manner of the STYLE picture; adain takes its style from a picture and learns that from a folder of
    them, --styles.
    """
    any_style = network == AdaINNetwork.family
    names = ADAIN_OPTIONS if any_style else PAINTER_OPTIONS
    others = PAINTER_OPTIONS if any_style else ADAIN_OPTIONS | {"rounded"}
    kind = "adain" if any_style else "a network of one style"
    refuse_typed(others - names - {"network"}, f"an option of {kind}")
    chosen = {name: given.pop(name) for name in (ADAIN_OPTIONS | PAINTER_OPTIONS) & given.keys()}
    chosen = {name: value for name, value in chosen.items() if name in names and value is not None}
    with progress_bar("training", quiet=quiet) as progress:
        if any_style:
            from vggquant.training.adain import train_adain

            if style is not None or styles is None:
                expected, cure = "a folder of paintings", "name it, and leave STYLE out"
                raise OptionError(expected, f"the picture {style}" if style else "none", cure, tensor="styles")
            options = AdaINOptions(**chosen, rounded=_width(given["bits"]) if rounded else None)
            report = train_adain(styles, out, options, progress=progress, **given)
        else:
            from vggquant.training.training import train as run

            if style is None or styles is not None:
                raise OptionError("a STYLE picture", styles or "none", "name one", tensor="style")
            report = run(style, out, TrainingOptions(network=network, **chosen), progress=progress, **given)
    echo_report(out, report, quiet=quiet)


def _width(bits: str | None) -> int:
    """The one width that weights are rounded to while they are trained."""
    if bits is None or not bits.isdecimal():
        raise OptionError("a width for all weights, `bits` N", bits or "none", "pass one, such as 5", tensor="rounded")
    return int(bits)
