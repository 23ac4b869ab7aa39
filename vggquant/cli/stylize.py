"""`vggquant stylize`: its options, their checks and its report.

Painting is left to `style.painting`, and that in one pass to `style.feedforward`.
"""

from __future__ import annotations

import dataclasses
from itertools import chain
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from vggquant.cli.options import LayerWeight, Weights, Word, force_option
from vggquant.cli.output import as_typed, echo
from vggquant.cli.progress import progress_bar
from vggquant.errors import OptionError, located
from vggquant.networks.vgg import require_vgg
from vggquant.style.options import (
    LONGEST,
    OPTIMIZERS,
    OTHER_SPELLINGS,
    PIXELS,
    PRECISIONS,
    PRESERVE_COLORS,
    STARTS,
    StyleOptions,
)

if TYPE_CHECKING:
    from vggquant.style.painting import Saves

DEFAULTS = StyleOptions()
HERE = "."  # the default of --save-to
ONE_PASS = {"content", "styles", "out", "network", "size", "pixels", "device", "force"}  # what has a meaning there


def list_layers(ctx: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Print the indices and names of the layers that the weights have, and exit, if that is wanted.

    Both --list-layers and --weights call this before other options are looked at, in the order in which they were
    typed; whichever comes last finds the other's value here.
    """
    ctx.meta[f"stylize.{parameter.name}"] = value
    if ctx.meta.get("stylize.list_layers") and "stylize.weights" in ctx.meta:
        from vggquant.files.container import read_outline
        from vggquant.files.sources import resolve

        path = resolve(ctx.meta["stylize.weights"])
        with located(path):
            layers = require_vgg(read_outline(path)).layers
        for index, layer in enumerate(layers):
            echo(f"{index:2} {layer}")
        ctx.exit()
    return value


@click.command()
@click.argument("content")
@click.argument("styles", nargs=-1, metavar="STYLE...")
@click.option("-o", "--out", required=True, help="Picture to write: .png, .jpg, .webp or .tif.")
@click.option(
    "--network", metavar="FILE", help="Paint in one pass, with one that train made, or starry, scream, wave or mosaic."
)
@click.option(
    "--weights", metavar="FILE", is_eager=True, callback=list_layers, help="A packed file.  [default: embedded VGG-19]"
)
@click.option("--steps", type=click.IntRange(0), default=DEFAULTS.steps, show_default=True, help="All scales together.")
@click.option("--size", type=click.IntRange(1, LONGEST), help="Longest side of the result, in pixels.")
@click.option(
    "--pixels",
    type=click.IntRange(1, 50_000_000),
    help=f"Its area, without --size.  [default: the content's, at most {PIXELS}]",
)
@click.option("--style-size", type=click.IntRange(1, LONGEST), help="Longest side of the styles.")
@click.option("--style-pixels", type=click.IntRange(1, 50_000_000), help="Their area.  [default: the content's]")
@click.option(
    "--style-weight", "style_weights", type=Weights(), multiple=True, help="One for each style.  [default: 1/N]"
)
@click.option(
    "--mask", "masks", multiple=True, metavar="FILE", help="One for each style: white where it goes, or none."
)
@click.option(
    "--content-layer",
    "content_layers",
    type=LayerWeight(),
    multiple=True,
    help="Where content is compared; 0.5 halves its usual weight.  [default: relu4_2]",
)
@click.option(
    "--style-layer",
    "style_layers",
    type=LayerWeight(),
    multiple=True,
    help="Where style is compared, likewise.  [default: relu1_1 ... relu5_1]",
)
@click.option("--content-weight", type=float, default=DEFAULTS.content_weight, show_default=True)
@click.option("--tv-weight", type=float, default=DEFAULTS.tv_weight, show_default=True, help="Of the total variation.")
@click.option("--optimizer", type=click.Choice(OPTIMIZERS), default=DEFAULTS.optimizer, show_default=True)
@click.option("--scales", type=click.IntRange(1, 10), help="Sizes to work at, coarse to fine.  [default: by size]")
@click.option(
    "--precision",
    type=Word(PRECISIONS),
    default=DEFAULTS.precision,
    show_default=True,
    help="auto is bf16 where the processor has it.",
)
@click.option("--pooling", type=click.Choice(("max", "avg")), default="max", show_default=True)
@click.option(
    "--preserve-color", type=click.Choice(PRESERVE_COLORS), default="none", help="Keep the content's colours."
)
@click.option("--start", default="content", metavar="content|noise|grey|FILE", help="What to begin with.")
@click.option(
    "--seed", type=click.IntRange(0, 2**63 - 1), default=DEFAULTS.seed, show_default=True, help="Of the noise."
)
@click.option("--resume", metavar="FILE", help="Go on from a picture on the way.  --steps may be more.")
@click.option(
    "--save-every", type=click.IntRange(1), metavar="N", help="Write a picture every N steps, as large as it is then."
)
@click.option("--save-to", default=HERE, metavar="FOLDER", show_default=True, help="Where to.")
@click.option("--save-prefix", default="", help="Of their names.")
@click.option("--device", default="cpu", show_default=True)
@click.option(
    "--supplemental-device",
    "supplemental_devices",
    nargs=2,
    multiple=True,
    metavar="DEVICE LAYER",
    help="Another device from a layer on, by name or index.",
)
@click.option("--deterministic", is_flag=True, help="Use only algorithms that always give the same.")
@click.option(
    "--list-layers",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=list_layers,
    help="Print those of --weights.",
)
@force_option
@click.pass_context
def stylize(
    ctx: click.Context,
    content: str,
    styles: tuple[str, ...],
    out: str,
    network: str | None,
    start: str,
    save_every: int | None,
    save_to: str,
    save_prefix: str,
    **given: Any,
) -> None:
    """Paint CONTENT in the manner of the STYLE pictures, and write it to --out.

    With --network there are no styles: all pictures are painted in the one that the network knows, several of them
    into the folder --out.
    """
    if network is not None:
        _paint_in_one_pass(ctx, (content, *styles), out, network, given)
        return
    if not styles:
        raise OptionError("a STYLE after CONTENT", "none", "name one, or a `network`", tensor="styles")
    from vggquant.style.painting import paint

    style_names = {field.name for field in dataclasses.fields(StyleOptions)} & given.keys()
    start = OTHER_SPELLINGS.get(start, start)
    options = _style_options(start, {name: given.pop(name) for name in style_names})
    saves = _saves(save_every, save_to, save_prefix)
    picture = None if start in STARTS else start
    with progress_bar("stylizing") as progress:
        report = paint(content, styles, out, options, start=picture, saves=saves, progress=progress, **given)
    for note in report.notes:
        echo(as_typed(note, stylize), err=True)
    loss = ", ".join(f"{name} {value:.5g}" for name, value in report.loss.items())
    steps = f"{options.steps} step{'s' * (options.steps != 1)}"
    echo(f"{out}: {report.width} × {report.height} pixels, {steps}" + (f"; {loss}" if loss else ""))


def _paint_in_one_pass(
    ctx: click.Context, contents: tuple[str, ...], out: str, network: str, given: dict[str, Any]
) -> None:
    """Paint with a network that knows its style."""
    for name in ctx.params:
        typed = ctx.get_parameter_source(name) == ParameterSource.COMMANDLINE
        if typed and name not in ONE_PASS:
            raise OptionError("no such option where a network paints", "one", "leave it out", tensor=name)
    from vggquant.style.feedforward import paint_in_one_pass

    kept = {name: given[name] for name in ("size", "pixels", "device", "force")}
    with progress_bar("painting") as progress:
        painted = paint_in_one_pass(contents, out, network, progress=progress, **kept)
    for picture in painted:
        for note in picture.notes:
            echo(as_typed(note, stylize), err=True)
        echo(f"{picture.path}: {picture.width} × {picture.height} pixels")


def _style_options(start: str, given: dict[str, Any]) -> StyleOptions:
    """The options of the transfer.

    Args:
        start: One of `STARTS`, or a picture file, which `StyleOptions` knows nothing of.
        given: The other options by name, as click parsed them.
    """
    chosen = dict(given)
    for option in ("content_layers", "style_layers"):
        chosen[option] = _layer_weights(option, given[option]) or getattr(DEFAULTS, option)
    chosen["style_weights"] = tuple(chain.from_iterable(given["style_weights"])) or None
    if start in STARTS:
        chosen["start"] = start
    return StyleOptions(**chosen)


def _layer_weights(option: str, pairs: tuple[tuple[str, float], ...]) -> dict[str, float]:
    """Layers with their weights in the loss, each layer named once."""
    names = [layer for layer, _ in pairs]
    if len(set(names)) < len(names):
        raise OptionError("each layer once", ", ".join(names), "name it once", tensor=option)
    return dict(pairs)


def _saves(every: int | None, folder: str, prefix: str) -> Saves | None:
    """The intermediate pictures that are wanted, if any."""
    from vggquant.style.painting import Saves

    if every is not None:
        return Saves(every, folder, prefix)
    if folder != HERE or prefix:
        expected = "a number of steps, since a folder or prefix is named"
        raise OptionError(expected, "none", "add it", tensor="save_every")
    return None
