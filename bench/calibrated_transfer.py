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


def main() -> None:
    """Paint, write the JSON, and draw the picture."""
    folder = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as temporary:  # where they have the names that are shown
        paths = [Path(temporary) / label for label in FILES]
        for path, name in zip(paths, FILES.values(), strict=True):
            shutil.copy(folder / f"{name}.safetensors", path)
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
    assert [*regrets] == [*FILES]
    save("calibrated_transfer", {"machine": describe(), "steps": TRANSFER.steps, **study.numbers})
    with Image.open(io.BytesIO(contact_sheet(dataclasses.replace(study, sources={})))) as sheet:
        sheet.convert("RGB").save(FIGURE, quality=92, subsampling=0)


if __name__ == "__main__":
    main()
