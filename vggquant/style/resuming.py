"""What a PNG tells in its text about the transfer that made it, and how a transfer goes on from such a picture."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch

from vggquant.errors import PictureError, located
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
        done: Steps that were made before.
        resumed: Where the transfer was resumed, first to last: the step and the checksum of the picture.
    """

    options: StyleOptions
    settings: dict[str, Any]
    done: int = 0
    resumed: tuple[dict[str, Any], ...] = ()

    def text(self, step: int) -> str:
        """The text for the picture after a step."""
        made_with = {"vggquant": version("vggquant"), "torch": torch.__version__, "resumed": self.resumed}
        return json.dumps({**made_with, "step": step, **self.settings}, sort_keys=True)


def make_record(inputs: Inputs, pictures: Pictures, options: StyleOptions, pooling: Pooling, *, bf16: bool) -> Record:
    """The record of a transfer, which goes on from a picture if the inputs name one to resume from.

    Args:
        inputs: Files to paint from.
        pictures: That were read from them.
        options: Of the transfer. A precision of ``auto`` is that of the picture to resume from, if there is one.
        pooling: ``max`` or ``avg``.
        bf16: Whether the devices have it.

    Raises:
        PictureError: That picture was not made by this very transfer.
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
        return Record(options, settings)
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
    """The record that a picture holds, if all of its settings but the start are those of this transfer."""
    try:
        found = json.loads(picture.settings or "")
        step, theirs, resumed = found["step"], {key: found[key] for key in settings}, tuple(found.get("resumed", ()))
        # whoever resumes names no start, and the record keeps the first one
        theirs["sha256"] = {**theirs["sha256"], "start": settings["sha256"]["start"]}
    except (ValueError, KeyError, TypeError, RecursionError):
        raise PictureError("the settings of a transfer in a PNG's text", "none", _CURE) from None
    ours = json.loads(json.dumps(settings))  # lists for tuples, as in what was read
    different = [key for key in ours if ours[key] != theirs[key]]
    if different:
        raise PictureError("a picture of this very transfer", f"other {', '.join(different)}", _CURE)
    if type(step) is not int or not 0 <= step <= options.steps:
        raise PictureError(f"a step up to {options.steps}", step, _CURE)
    return Record(options, {**settings, "sha256": found["sha256"]}, step, resumed)
