"""What a PNG tells in its text about the transfer that made it, and how a transfer goes on from such a picture."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch

from vggquant.errors import OptionError, PictureError, located
from vggquant.files.safetensors import is_count
from vggquant.models.vgg import Pooling
from vggquant.pictures.files import Picture
from vggquant.style.inputs import Inputs, Pictures, checksum
from vggquant.style.options import StyleOptions

_CURE = "repeat the command that it was made with, or pass it as `start`"


@dataclass(frozen=True)
class Record:
    """What is known of a transfer, to be written into its pictures.

    Args:
        options: Of the transfer, with the precision that it is made in.
        settings: These, sizes and checksums, which make the transfer what it is; no paths.
        planned: Steps that the scales were planned for.
        done: Steps that were made before.
        resumed: Where the transfer was resumed, first to last: the step and the checksum of the picture.
    """

    options: StyleOptions
    settings: dict[str, Any]
    planned: int
    done: int = 0
    resumed: tuple[dict[str, Any], ...] = ()

    def text(self, step: int) -> str:
        """The text for the picture after a step."""
        made_with = {"vggquant": version("vggquant"), "torch": torch.__version__, "resumed": self.resumed}
        return json.dumps({**made_with, "step": step, "planned": self.planned, **self.settings}, sort_keys=True)


def make_record(inputs: Inputs, pictures: Pictures, options: StyleOptions, pooling: Pooling, *, bf16: bool) -> Record:
    """The record of a transfer, which goes on from a picture if the inputs name one to resume from.

    Args:
        inputs: Files to paint from.
        pictures: That were read from them.
        options: Of the transfer. A precision of ``auto`` is that of the picture to resume from, if there is one.
        pooling: ``max`` or ``avg``.
        bf16: Whether the devices have it.

    Raises:
        PictureError: That picture tells of no transfer.
        OptionError: It was made by a transfer with another option, or with more steps.
    """
    if inputs.resume is not None and pictures.begun is not None:
        bf16 = _precision_of(pictures.begun, bf16=bf16)
    options = options.settled(bf16=bf16)
    height, width = pictures.content.size
    settings = {
        "options": dataclasses.asdict(options),
        "pooling": pooling,
        "sha256": inputs.checksums(),
        "size": [width, height],
        "style_sizes": [[style.size[1], style.size[0]] for style in pictures.styles],
    }
    if inputs.resume is None or pictures.begun is None:
        return Record(options, settings, options.steps)
    with located(inputs.resume):
        found = _resume(pictures.begun, options, settings)
    here = {"step": found.done, "sha256": checksum(inputs.resume)}
    return dataclasses.replace(found, resumed=(*found.resumed, here))


def _precision_of(picture: Picture, *, bf16: bool) -> bool:
    """Whether a picture says that it was painted in bf16; as given, if it says nothing."""
    try:
        recorded = json.loads(picture.settings or "")["options"]["precision"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return bf16
    return bool(recorded == "bf16")


def _resume(picture: Picture, options: StyleOptions, settings: dict[str, Any]) -> Record:
    """The record that a picture holds, if its settings but for the start and fewer steps are those of this transfer."""
    try:
        found = json.loads(picture.settings or "")
        theirs, resumed, step = _by_argument(found), tuple(found.get("resumed", ())), found["step"]
        steps = theirs.pop("steps")
        planned = found.get("planned", steps)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise PictureError("the settings of a transfer in a PNG's text", "none", _CURE) from None
    if not (is_count(steps) and is_count(planned, steps + 1) and is_count(step, steps + 1)):
        got = f"{step} of {steps}, planned as {planned}"
        raise PictureError("a step of a transfer in a PNG's text", got, _CURE)
    ours = _by_argument(json.loads(json.dumps(settings)))  # lists for tuples, as in what was read
    if ours.pop("steps") < steps:
        raise OptionError(f"`steps` {steps} or more, as before", options.steps, _CURE)
    different = [name for name in ours if ours[name] != theirs.get(name)]
    if different:
        before = " and ".join(f"`{name}` {_brief(theirs.get(name))}" for name in different)
        got = " and ".join(_brief(ours[name]) for name in different)
        raise OptionError(f"{before}, as before", got, _CURE)
    return Record(options, {**settings, "sha256": found["sha256"]}, planned, step, resumed)


def _by_argument(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings by the arguments that they come from. Whoever resumes names no file to start from."""
    files = {name: settings["sha256"][name] for name in ("content", "styles", "masks", "weights")}
    sizes = {"size": settings["size"], "style_size": settings["style_sizes"]}
    return {**settings["options"], **files, **sizes, "pooling": settings["pooling"]}


def _brief(value: object) -> str:
    """A setting in a few characters: of checksums the first eight, and sizes as width and height."""
    text = re.sub("([0-9a-f]{8})[0-9a-f]{56}", r"\1…", json.dumps(value, ensure_ascii=False))
    return re.sub(r"\[([0-9]+), ([0-9]+)\]", r"\1 × \2", text).replace('"', "").replace("null", "none")
