"""`vggquant stylize`: its options, their checks and its report; the painting is left to `style.painting`."""

from __future__ import annotations

import dataclasses
from itertools import chain
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from vggquant.cli.options import (
    FILE,
    FOLDER,
    PAINTER,
    SOURCE,
    LayerWeight,
    PathName,
    Weights,
    Word,
    examples,
    force_option,
    number_option,
    quiet_option,
)
from vggquant.cli.output import echo, echo_notes
from vggquant.cli.progress import progress_bar
from vggquant.errors import NetworkError, OptionError, located
from vggquant.files.container import read_outline
from vggquant.files.sources import ANY_STYLE, resolve
from vggquant.networks.adain import AdaINNetwork
from vggquant.networks.arbitrary import ArbitraryNetwork
from vggquant.networks.vgg import as_vgg, require_vgg
from vggquant.style.options import (
    LONGEST,
    NO_MASK,
    OPTIMIZERS,
    OTHER_SPELLINGS,
    PIXELS,
    PRECISIONS,
    PRESERVE_COLORS,
    STARTS,
    STRENGTH,
    StyleOptions,
)

if TYPE_CHECKING:
    from vggquant.style.painting import Saves

DEFAULTS = StyleOptions()
HERE = "."  # the default of --save-to
# what serves in one pass, and what else where the network takes any style
ONE_PASS = {"content", "styles", "out", "network", "size", "pixels", "device", "force", "quiet"}
ANY = {"strength", "style_weights", "masks", "preserve_color", "style_size", "style_pixels", "save_style"}


def list_layers(ctx: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Print the indices and names of the layers that the weights have, and exit, if that is wanted.

    Both --list-layers and --weights call this before other options are looked at, in the order in which they were
    typed; whichever comes last finds the other's value here.
    """
    if ctx.resilient_parsing:  # a shell completes what is being typed
        return value
    ctx.meta[f"stylize.{parameter.name}"] = value
    if ctx.meta.get("stylize.list_layers") and "stylize.weights" in ctx.meta:
        path = resolve(ctx.meta["stylize.weights"])
        with located(path):
            layers = require_vgg(read_outline(path)).layers
        for index, layer in enumerate(layers):
            echo(f"{index:2} {layer}")
        ctx.exit()
    return value


@click.command(
    short_help="Paint a picture in the manner of others.",
    epilog=examples(
        ("A larger picture, from coarse to fine:", "stylize CONTENT.jpg STYLE.jpg -o OUT.png --size 1024"),
        ("Two styles, the first of them more:", "stylize CONTENT.jpg A.jpg B.jpg -o OUT.png --style-weight 0.7,0.3"),
        (
            "Strokes, but no colours, of the style:",
            "stylize CONTENT.jpg STYLE.jpg -o OUT.png --preserve-color luminance",
        ),
        ("A style where a mask is white:", "stylize CONTENT.jpg STYLE.jpg -o OUT.png --mask SKY.png"),
        ("Go on after Ctrl-C:", "stylize CONTENT.jpg STYLE.jpg -o OUT.png --resume OUT.png --force"),
        ("In a second, in any style:", "stylize CONTENT.jpg STYLE.jpg -o OUT.png --network adain"),
        ("In a fraction of a second, in one style:", "stylize CONTENT.jpg -o OUT.png --network starry"),
    ),
)
@click.argument("content", type=FILE)
@click.argument("styles", nargs=-1, metavar="[STYLE]...", type=FILE)
@click.option("-o", "--out", required=True, type=FILE, help="Picture to write: .png, .jpg, .webp or .tif.")
@click.option(
    "--network",
    type=PAINTER,
    help="Paint in one pass, by a network that train made, or adain, arbitrary, starry, scream, wave or mosaic.",
)
@number_option("--strength", STRENGTH, "How much of the styles adain and arbitrary take, from 0 to 1.")
@click.option("--save-style", type=FILE, help="Write the style of arbitrary to a .json, to be a STYLE later.")
@click.option(
    "--weights",
    type=SOURCE,
    metavar="FILE",
    is_eager=True,
    callback=list_layers,
    help="A packed file.  [default: embedded VGG-19]",
)
@click.option(
    "--steps",
    type=click.IntRange(0),
    metavar="N",
    default=DEFAULTS.steps,
    show_default=True,
    help="How often the picture is changed, over all scales together.",
)
@click.option("--size", type=click.IntRange(1, LONGEST), metavar="N", help="Longest side of the result, in pixels.")
@click.option(
    "--pixels",
    type=click.IntRange(1, 50_000_000),
    metavar="N",
    help=f"Area of the result, instead of --size.  [default: the content's, at most {PIXELS}]",
)
@click.option(
    "--style-size", type=click.IntRange(1, LONGEST), metavar="N", help="Longest side of the styles, in pixels."
)
@click.option(
    "--style-pixels",
    type=click.IntRange(1, 50_000_000),
    metavar="N",
    help="Area of the styles, instead of --style-size.  [default: the content's; arbitrary: 262144]",
)
@click.option(
    "--style-weight",
    "style_weights",
    type=Weights(),
    multiple=True,
    help="How much each of the N styles counts, in their order.  [default: 1/N each]",
)
@click.option(
    "--mask",
    "masks",
    type=PathName(NO_MASK),
    multiple=True,
    help="Where a style applies: fully in white, not at all in black. Give one for each style; none means everywhere.",
)
@click.option(
    "--content-layer",
    "content_layers",
    type=LayerWeight(),
    multiple=True,
    help="Where content is compared; repeat it for more layers. =0.5 halves the usual weight.  [default: relu4_2]",
)
@click.option(
    "--style-layer",
    "style_layers",
    type=LayerWeight(),
    multiple=True,
    help="Where style is compared, likewise.  [default: relu1_1 ... relu5_1]",
)
@number_option("--content-weight", DEFAULTS.content_weight, "How much the content counts against the styles.")
@number_option("--tv-weight", DEFAULTS.tv_weight, "How much smoothness counts (total variation).")
@click.option(
    "--optimizer",
    type=Word(OPTIMIZERS),
    default=DEFAULTS.optimizer,
    show_default=True,
    help="How the loss is lowered.",
)
@click.option(
    "--scales",
    type=click.IntRange(1, 10),
    metavar="N",
    help="How many sizes to work at, coarse to fine.  [default: as many as begin near 128 pixels]",
)
@click.option(
    "--precision",
    type=Word(PRECISIONS),
    default=DEFAULTS.precision,
    show_default=True,
    help="What the network computes in; auto is bf16 where the processor has it.",
)
@click.option(
    "--pooling",
    type=Word(("max", "avg")),
    default="max",
    show_default=True,
    help="What the network keeps of 2 × 2 activations: the largest, or the mean.",
)
@click.option(
    "--preserve-color",
    type=Word(PRESERVE_COLORS),
    default="none",
    show_default=True,
    help="Keep the content's colours: luminance paints only in light and dark, linear first recolours the styles.",
)
@click.option(
    "--start",
    type=PathName(*STARTS, ANY_STYLE),
    default="content",
    show_default=True,
    metavar="content|noise|grey|adain|FILE",
    help="What to begin with; adain is what that network paints.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    metavar="N",
    default=DEFAULTS.seed,
    show_default=True,
    help="Which noise --start noise begins with.",
)
@click.option("--resume", type=FILE, help="Go on from a picture on the way or after Ctrl-C; --steps may be more.")
@click.option(
    "--save-every", type=click.IntRange(1), metavar="N", help="Write a picture every N steps, as large as it is then."
)
@click.option("--save-to", type=FOLDER, default=HERE, show_default=True, help="Where these pictures go.")
@click.option("--save-prefix", metavar="TEXT", default="", help="What their names begin with.")
@click.option("--device", metavar="DEVICE", default="cpu", show_default=True, help="Where torch computes, e.g. cuda.")
@click.option(
    "--supplemental-device",
    "supplemental_devices",
    nargs=2,
    multiple=True,
    metavar="DEVICE LAYER",
    help="Compute on another device from a layer on, given by name or index.",
)
@click.option("--deterministic", is_flag=True, help="Use only algorithms that give the same result on every run.")
@click.option(
    "--list-layers",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=list_layers,
    help="Print the layers of --weights with their indices, and exit.",
)
@force_option
@quiet_option
def stylize(
    content: str,
    styles: tuple[str, ...],
    out: str,
    network: str | None,
    start: str,
    save_every: int | None,
    save_to: str,
    save_prefix: str,
    quiet: bool,
    **given: Any,
) -> None:
    """Paint CONTENT in the manner of the STYLE pictures, and write it to --out.

    Ctrl-C writes the picture reached, from which --resume goes on; a second Ctrl-C ends at once.

    With a --network that knows one style there are no others: all pictures are painted in that, several of them into
    the folder --out.
    """
    given["style_weights"] = tuple(chain.from_iterable(given["style_weights"])) or None
    if network is not None:
        given["quiet"] = quiet
        if _takes_any_style(network):
            _paint_in_styles(content, styles, out, network, given)
        else:
            _paint_in_one_pass((content, *styles), out, network, given)
        return
    _require_served(set(click.get_current_context().params) - {"strength", "save_style"}, "without a `network`")
    del given["strength"], given["save_style"]
    if not styles:
        raise OptionError("a STYLE after CONTENT", "none", "name one, or a `network`", tensor="styles")
    from vggquant.style.painting import paint

    style_names = {field.name for field in dataclasses.fields(StyleOptions)} & given.keys()
    start = OTHER_SPELLINGS.get(start, start)
    options = _style_options(start, {name: given.pop(name) for name in style_names})
    saves = _saves(save_every, save_to, save_prefix)
    picture = None if start in STARTS else start
    with progress_bar("stylizing", quiet=quiet) as progress:
        report = paint(content, styles, out, options, start=picture, saves=saves, progress=progress, **given)
    echo_notes(report.notes, quiet=quiet)
    loss = ", ".join(f"{name} {value:.5g}" for name, value in report.loss.items())
    steps = f"{options.steps} step{'s' * (options.steps != 1)}"
    echo(f"{out}: {report.width} × {report.height} pixels, {steps}" + (f"; {loss}" if loss else ""))


def _takes_any_style(network: str) -> bool:
    """Whether a network takes its style from pictures; one that does not paint at all is refused."""
    path = resolve(network)
    with located(path):
        found = read_outline(path)
        if as_vgg(found) is not None:
            cure = "name one that `vggquant train` made, or pass it as `weights`"
            raise NetworkError("a network that paints", f"a network of the family {found.family}", cure)
    return found.family in (AdaINNetwork.family, ArbitraryNetwork.family)


def _require_served(serving: set[str], by: str) -> None:
    """Refuse options that were typed and do not serve."""
    ctx = click.get_current_context()
    for name in ctx.params:
        typed = ctx.get_parameter_source(name) == ParameterSource.COMMANDLINE
        if typed and name not in serving:
            cure = "leave it out" + (", or name a `network` that takes any style, such as adain" if name in ANY else "")
            raise OptionError(f"an option that serves {by}", "this one", cure, tensor=name)


def _paint_in_styles(content: str, styles: tuple[str, ...], out: str, network: str, given: dict[str, Any]) -> None:
    """Paint with a network that takes any style."""
    _require_served(ONE_PASS | ANY, "with a `network` that takes any style")
    from vggquant.style.any_style import paint_in_styles

    kept = {name: given[name] for name in (*ANY, "size", "pixels", "device", "force")}
    picture = paint_in_styles(content, styles, out, network, **kept)
    echo_notes(picture.notes, quiet=given["quiet"])
    echo(f"{picture.path}: {picture.width} × {picture.height} pixels")


def _paint_in_one_pass(contents: tuple[str, ...], out: str, network: str, given: dict[str, Any]) -> None:
    """Paint with a network that knows its style."""
    _require_served(ONE_PASS, "with a `network` that knows one style")
    from vggquant.style.feedforward import paint_in_one_pass

    kept = {name: given[name] for name in ("size", "pixels", "device", "force")}
    with progress_bar("painting", quiet=given["quiet"]) as progress:
        painted = paint_in_one_pass(contents, out, network, progress=progress, **kept)
    for picture in painted:
        echo_notes(picture.notes, quiet=given["quiet"])
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
