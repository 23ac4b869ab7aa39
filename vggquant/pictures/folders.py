"""Lists the pictures of a folder; reading them is left to `files`."""

from __future__ import annotations

import os
from pathlib import Path

from vggquant.errors import PictureError
from vggquant.files.disk import PathLike
from vggquant.pictures.files import WRITABLE


def pictures_in(source: PathLike) -> list[Path]:
    """List the files of a folder whose names end like a picture's, but for hidden ones.

    Args:
        source: The folder.

    Returns:
        One path or more, in alphabetical order.

    Raises:
        PictureError: There is no such folder, it may not be read, or it holds no pictures.
    """
    folder = Path(os.fsdecode(source))
    if not os.path.isdir(folder):  # where `Path.is_dir` may raise an error
        got = "a file" if os.path.lexists(folder) else "no such folder"
        raise PictureError("a folder of pictures", got, "name the folder", path=source)
    try:
        paths = sorted(
            path
            for path in folder.iterdir()
            if path.suffix.lower() in WRITABLE and not path.name.startswith(".") and path.is_file()
        )
    except OSError as error:
        cure = "check its permissions"
        raise PictureError("a readable folder of pictures", error.strerror, cure, path=folder) from None
    if not paths:
        raise PictureError("pictures in the folder", "none", f"put {', '.join(WRITABLE)} there", path=source)
    return paths
