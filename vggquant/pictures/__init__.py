"""Pictures: reading and writing files, working with colours, and generating pictures that no file is needed for.

Nothing here knows about networks or weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vggquant.lazy_imports import offer

if TYPE_CHECKING:
    from vggquant.pictures.files import Picture, read_picture, write_picture
    from vggquant.pictures.generated import generated_pictures

__all__ = ["Picture", "generated_pictures", "read_picture", "write_picture"]

# Generating pictures needs NumPy alone, so torch is only imported with the files.
__getattr__, __dir__ = offer(
    __name__,
    {
        "Picture": "files",
        "generated_pictures": "generated",
        "read_picture": "files",
        "write_picture": "files",
    },
)
