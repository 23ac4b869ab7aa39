"""`vggquant distil`: its options; the distillation is left to `training`."""

from __future__ import annotations

import dataclasses
from typing import Any

import click

from vggquant.cli.options import FOLDER, PAINTER, Word, count_option, examples, number_option
from vggquant.cli.progress import progress_bar
from vggquant.cli.training import computing_and_files, echo_report, pictures_to_file, refuse_typed
from vggquant.training.options import TAUGHT, DistilOptions

DEFAULTS = DistilOptions()
OF_TRANSFER = ("size", "style_size", "pixel_weight", "content_weight", "style_weight", "separable")


@click.command(
    short_help="Teach a network that takes any style what another one knows.",
    epilog=examples(
        ("Make a transfer network separable:", "distil NET -o OUT --images PHOTOS --styles PAINTINGS --separable"),
        ("A narrower predictor:", "distil NET -o OUT --styles PAINTINGS --part predictor --width 0.4"),
        ("More of the styles than the teacher takes:", "distil NET -o OUT --styles PAINTINGS --style-weight 8"),
    ),
)
@click.argument("teacher", type=PAINTER)
@pictures_to_file
@click.option("--styles", type=FOLDER, required=True, help="Paintings whose styles it learns.")
@click.option(
    "--part",
    type=Word(TAUGHT),
    default=DEFAULTS.part,
    show_default=True,
    help="What learns, the predictor of styles or the transfer network; the other stays.",
)
@click.option("--separable", is_flag=True, help="Make the transfer network's last 13 convolutions depthwise separable.")
@click.option(
    "--width", type=float, metavar="NUMBER", help="Width of the predictor, times MobileNetV2's.  [default: as it is]"
)
@count_option("--steps", DEFAULTS.steps, "How often the weights are changed.")
@count_option("--size", DEFAULTS.size, "Side of the photographs' crops, in pixels.")
@count_option("--style-size", DEFAULTS.style_size, "Side of the styles, in pixels, at which strokes are learned.")
@count_option("--batch", DEFAULTS.batch, "Pictures that each step looks at.")
@number_option("--pixel-weight", DEFAULTS.pixel_weight, "How much the teacher's paintings count.")
@number_option("--content-weight", DEFAULTS.content_weight, "How much the content of the photographs counts.")
@number_option("--style-weight", DEFAULTS.style_weight, "How much the style counts.")
@number_option("--learning-rate", DEFAULTS.learning_rate, "Adam's, at its highest.")
@computing_and_files("A network to begin with, such as arbitrary.  [default: TEACHER]")
def distil(teacher: str, styles: str, out: str, quiet: bool, **given: Any) -> None:
    """Teach a network that paints in any style what TEACHER knows, a network of its kind, and pack it into --out.

    Its predictor learns the teacher's 100 numbers of styles. Its transfer network learns the teacher's paintings, pixel
    by pixel, and to look like content and style to a VGG.
    """
    from vggquant.training.distilling import distil as run

    if given["part"] == "predictor":
        refuse_typed(OF_TRANSFER, "an option that serves with --part predictor")
    chosen = {
        name: given.pop(name) for name in {field.name for field in dataclasses.fields(DistilOptions)} & given.keys()
    }
    with progress_bar("training", quiet=quiet) as progress:
        report = run(teacher, styles, out, DistilOptions(**chosen), progress=progress, **given)
    echo_report(out, report, quiet=quiet)
