"""`vggquant prune`: its options and its report; the pruning is left to `training.prune`."""

from __future__ import annotations

import os

import click

from vggquant.cli.options import FILE, PAINTER, Word, examples, force_option
from vggquant.cli.output import echo
from vggquant.networks.adain import NAMES


@click.command(
    short_help="Leave out channels of a network that takes any style.",
    epilog=examples(
        ("Two fifths of the weights:", "prune NET OUT --keep 0.4"),
        ("Only in the deep layers:", "prune NET OUT --keep 0.4 --first conv3_1"),
        (
            "Then train what is left:",
            "train --network adain --part both --start OUT -o NEXT --images PHOTOS --styles PAINTINGS",
        ),
    ),
)
@click.argument("network", metavar="NET", type=PAINTER)
@click.argument("out", type=FILE)
@click.option("--keep", type=float, metavar="SHARE", required=True, help="Share of the weights that are kept at most.")
@click.option(
    "--first",
    type=Word(NAMES),
    default=NAMES[0],
    show_default=True,
    help="First convolution of the encoder that loses channels.",
)
@force_option
def prune(network: str, out: str, keep: float, first: str, force: bool) -> None:
    """Leave out channels of NET, a network that train made with --network adain, and write OUT.

    Encoder and decoder lose the channels whose filters are smallest, as many in each. What is left paints badly until
    it is trained on.
    """
    from vggquant.training.prune import prune as run

    left = run(network, out, keep, first=first, force=force)
    channels = ", ".join(map(str, left.channels))
    echo(f"{out}: {left.parameters:,} parameters in {os.path.getsize(out):,} bytes; channels {channels}")
