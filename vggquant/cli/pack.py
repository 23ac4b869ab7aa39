"""`vggquant pack`: its options and its report; the packing itself is left to `packing.packer`."""

from __future__ import annotations

from typing import Any

import click

from vggquant.cli.options import force_option, json_option
from vggquant.cli.output import as_typed, echo, print_json
from vggquant.cli.progress import progress_bar
from vggquant.codec.bitstream import CODINGS
from vggquant.files.layouts import LAYOUTS
from vggquant.networks.vgg import ARCHITECTURES, PREPROCESSINGS
from vggquant.wording import megabytes


@click.command()
@click.argument("source")
@click.argument("out")
@click.option("--bits", help="Bits per code, 1-8, or per layer: 'conv1_1=8,*=4'.  [default: 8]")
@click.option("--max-size", metavar="SIZE", help="Instead of --bits: choose widths so that the file fits, e.g. 6MB.")
@click.option("--coding", type=click.Choice(CODINGS), default="planes", show_default=True, help="Fast, or small.")
@click.option("--calibrate", is_flag=True, help="Choose codes by what they do to features; takes minutes.")
@click.option("--images", metavar="FOLDER", help="Up to 64 photographs to calibrate on.  [default: generated ones]")
@click.option("--upto", metavar="LAYER", help="Leave out the layers deeper than this one.")
@click.option("--layout", type=click.Choice(("auto", *LAYOUTS)), default="auto", help="Naming of the source.")
@click.option("--preprocessing", type=click.Choice(PREPROCESSINGS), help="Where the source does not tell.")
@click.option("--arch", type=click.Choice(tuple(ARCHITECTURES)), help="Where the source does not tell.")
@click.option("--attribution", metavar="TEXT", help="Authors and licence, joined to what the source says of them.")
@click.option("--ignore-extra", is_flag=True, help="Leave out tensors that do not belong to the network.")
@click.option("--jobs", type=click.IntRange(1), help="Layers at once; the result does not depend on it.")
@force_option
@json_option
def pack(source: str, out: str, layout: Any, as_json: bool, **options: Any) -> None:
    """Palettize the weights in SOURCE into the packed file OUT."""
    from vggquant.packing.packer import pack as run

    with progress_bar("packing") as progress:
        report = run(source, out, layout=None if layout == "auto" else layout, progress=progress, **options)
    if as_json:
        print_json(report)
        return
    for note in report.notes:
        echo(as_typed(note, pack), err=True)
    info = report.info
    echo(
        f"{out}: {info.architecture or info.family}, {len(info.layers)} layers, {megabytes(info.bytes)}, "
        f"{info.ratio:.1f} times smaller than float32, {info.bits_per_weight:.2f} bits a weight"
    )
