"""How do calibrated files paint? `python -m bench.calibrated_transfer FOLDER`, about ten minutes.

FOLDER holds the files that `bench.calibration --keep FOLDER` packed. Those calibrated on photographs paint the pictures
in the repository beside plain ones, for docs/calibration.jpg. Regrets are those of `vggquant compare`.
"""

from __future__ import annotations

import dataclasses
import io
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from bench.machine import describe, save
from vggquant.comparison.drawing import contact_sheet
from vggquant.comparison.study import TRANSFER, compare

ROOT = Path(__file__).parent.parent
FIGURE = ROOT / "docs" / "calibration.jpg"
FILES = {
    "4 bits, calibrated": "4-photographs",
    "3 bits, calibrated": "3-photographs",
    "2 bits, calibrated": "2-photographs",
    "3 bits, plain": "3-plain",
    "2 bits, plain": "2-plain",
}


def paint(files: Mapping[str, Path], result: str, figure: Path) -> None:
    """Paint with files beside the embedded weights, write the JSON, and draw the picture."""
    with tempfile.TemporaryDirectory() as temporary:  # where they have the names that are shown
        paths = [Path(temporary) / label for label in files]
        for path, file in zip(paths, files.values(), strict=True):
            shutil.copy(file, path)
        study = compare(
            "vgg19",
            paths,
            images="scikit-image",
            transfer=True,
            content=ROOT / "examples" / "landscape.jpg",
            style=ROOT / "examples" / "swirl.jpg",
            progress=lambda report: print(f"\r{report.done} of {report.total}, {report.detail}", end="", flush=True),
        )
    regrets = {file.label: file.transfer_regret for file in study.files}
    print("\n", regrets)
    assert [*regrets] == [*files]
    save(result, {"machine": describe(), "steps": TRANSFER.steps, **study.numbers})
    with Image.open(io.BytesIO(contact_sheet(dataclasses.replace(study, sources={})))) as sheet:
        sheet.convert("RGB").save(figure, quality=92, subsampling=0)


def main() -> None:
    """Paint with the files of a folder."""
    folder = Path(sys.argv[1])
    paint({label: folder / f"{name}.safetensors" for label, name in FILES.items()}, "calibrated_transfer", FIGURE)


if __name__ == "__main__":
    main()
