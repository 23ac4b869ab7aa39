"""`vggquant page`: its options and its report; putting the page together is left to `page`."""

from __future__ import annotations

import click

from vggquant.cli.options import FILE, PAINTER, examples, force_option, quiet_option
from vggquant.cli.output import echo, echo_notes

NOTE = "open it in any browser; a camera needs https, localhost, or a browser that gives it to files"


@click.command(
    short_help="Make a page of HTML that paints in any browser.",
    epilog=examples(
        ("The four embedded networks:", "page starry scream wave mosaic -o page.html"),
        ("One of your own:", "page mine.safetensors -o mine.html"),
        ("Any picture's style:", "page arbitrary -o any.html"),
        ("Again, with one more:", "page mine.safetensors starry -o mine.html --force"),
    ),
)
@click.argument("networks", nargs=-1, required=True, metavar="NET...", type=PAINTER)
@click.option("-o", "--out", required=True, type=FILE, help="Page to write.")
@force_option
@quiet_option
def page(networks: tuple[str, ...], out: str, force: bool, quiet: bool) -> None:
    """Make a page of HTML in which any browser paints the visitor's own pictures with packed networks NET.

    It is one file, which sends and fetches nothing. NET is a file that train made, or starry, scream, wave, mosaic or
    arbitrary; in the style of any picture only arbitrary paints there.
    """
    from vggquant.files.disk import check_output, write_file
    from vggquant.files.sources import resolve
    from vggquant.page.page import page_of

    check_output(out, force=force, sources=[resolve(network) for network in networks])
    size = write_file(out, [page_of(networks)], force=force)
    echo(f"{out}: {len(networks)} network{'s' if len(networks) > 1 else ''}, {size:,} bytes")
    echo_notes([NOTE], quiet=quiet)
