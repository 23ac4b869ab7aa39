"""Every code block of README.md and of the pages under docs: it runs, or the test that holds it is named here.

A page's blocks run in order, in a folder of files that have the names which pages use. CONTRIBUTING.md states the
conventions. So that this takes a minute and not an hour, commands are given options that make them short.
"""

from __future__ import annotations

import contextlib
import glob
import importlib
import io
import math
import os
import re
import shlex
import shutil
import subprocess
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.conftest import natural_picture, random_arrays, run
from tests.toy import ToyModule, toy_family
from vggquant import pack, unpack
from vggquant.cli import progress
from vggquant.comparison import measuring, sample_pictures, study
from vggquant.files.container import write
from vggquant.files.disk import read_file, sha256, write_file
from vggquant.files.known_files import PUBLISHED
from vggquant.files.tensors import write_safetensors
from vggquant.models.arbitrary import Arbitrary
from vggquant.networks.arbitrary import ArbitraryNetwork
from vggquant.networks.vgg import ARCHITECTURES
from vggquant.packing import calibration, calibration_pictures
from vggquant.style.options import StyleOptions
from vggquant.training.packing import unquantized

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

PYTHON, SHELL, OUTPUT = "python", "sh", "text"
# Blocks of other kinds, and the test that holds them.
HELD = {
    "stream": "tests.test_docs.test_the_example_stream",
    "hexdump": "tests.test_docs.test_the_worked_example",
    "tensors": "tests.test_docs.test_the_worked_example_of_version_2",
    "metadata": "tests.test_docs.test_the_worked_example_of_version_2",
    "usage": "tests.test_command_pages.test_the_options_are_those_of_the_help",
    "toml": "tests.test_code_blocks.test_toml_is_that_of_the_example",
}
# README.md's first two blocks install the package; scripts/check runs them in new environments.
HELD_BY_THE_GATE = ("python3 -m venv .venv && ", "python3 -m venv .venv-test && ")

# Lines of shell that are only parsed, and why.
PARSED = {
    "python3 -m venv": "makes an environment, which takes minutes; scripts/check does it",
    "pip ": "needs the network",
    "unzip ": "needs what pip downloaded",
    'eval "$(_VGGQUANT_COMPLETE=': "belongs into a shell's own file; tests/cli/test_completion.py runs it",
    "_VGGQUANT_COMPLETE=": "likewise",
    "cp ": "copies pictures that are in the folder already",
    "mkdir ": "would leave the folder",
}
# What stands for something else in commands and in Python.
SUBSTITUTES = {
    'device="cuda"': 'device="cpu"',  # tests have no GPU
    "calibrate=True": 'calibrate=True, upto="relu2_2"',  # which takes seconds
    "steps=300": "steps=2",
    "steps=5000, size=128": "steps=2, size=32, style_pixels=2500",
    'part="predictor"': 'part="predictor", width=0.02, steps=1, batch=1',
    'images="PHOTOS"': 'images="PHOTOS", bits=2',
    "DistilOptions()": "DistilOptions(steps=1, batch=1, size=32, style_size=32)",
}
WORDS = {"COMMAND": "pack"}
OUT = {
    "pack": "OUT.safetensors",
    "unpack": "OUT.pth",
    "stylize": "OUT.png",
    "train": "OUT.safetensors",
    "distil": "OUT.safetensors",
    "page": "OUT.html",
}  # which says by its ending what it is

PICTURES = (
    "photo.jpg",
    "painting.jpg",
    "other.jpg",
    "CONTENT",
    "STYLE",
    "STYLE2",
    "CONTENT.jpg",
    "STYLE.jpg",
    "SKY.png",
)
FOLDERS = ("photos", "PHOTOS", "PAINTINGS")  # of pictures
# Files that are alike but for their names; `prepared` makes the first of each row.
VGG16 = ("vgg16-397923af.pth", "vgg16.pth")  # which is taken for torchvision's
VGG16_PACKED = ("mine.safetensors",)
VGG19 = ("SOURCE", "REFERENCE", "YOURS.pth")  # in float32
VGG19_PACKED = ("vgg19-4bit.safetensors", "FILE")
ARBITRARY = ("plain.safetensors", "TEACHER")  # with plain convolutions, and narrow


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Args:
        line: Where it begins.
        kind: What stands behind the fence: ``sh``, ``python`` and so on.
        text: Its lines, without the indentation of a list that it may be in.
        output: What the page says that it prints; ``None`` if the page does not say.
    """

    line: int
    kind: str
    text: str
    output: str | None = None


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, those of what is printed joined to what prints it."""
    text = page.read_text()
    found: list[Block] = []
    end = fences = 0
    for match in re.finditer(r"^( *)```(.*)\n((?:.*\n)*?)\1```$", text, re.MULTILINE):
        block = Block(text.count("\n", 0, match.start()) + 2, match[2], textwrap.dedent(match[3]))
        if block.kind == OUTPUT:
            assert found, f"{page}:{block.line}: output of nothing"
            assert not text[end : match.start()].strip(), f"{page}:{block.line}: not directly below what prints it"
            found[-1] = Block(found[-1].line, found[-1].kind, found[-1].text, block.text)
        else:
            found.append(block)
        end, fences = match.end(), fences + 2
    assert fences == len(re.findall(r"^\s*(?:```|~~~)", text, re.MULTILINE)), f"{page}: a fence that nothing reads"
    return found


def save_picture(name: Path, seed: int) -> None:
    picture = Image.fromarray(natural_picture("astronaut" if seed % 2 else "coffee"))
    picture.resize((80, 64) if seed % 2 else (64, 80)).save(name, "PNG" if name.suffix == ".png" else "JPEG")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, pastiche_bin: Path) -> Path:
    """A folder of files that have the names which pages use."""
    folder = tmp_path_factory.mktemp("prepared")
    for seed, name in enumerate(PICTURES):
        save_picture(folder / name, seed)
    for name in ("landscape.jpg", "swirl.jpg"):
        shutil.copy(ROOT / "examples" / name, folder)
    for name in FOLDERS:
        (folder / name).mkdir()
        for seed in range(3):
            save_picture(folder / name / f"{seed}.jpg", seed)
    for name in ("mypackage", "pastiche"):
        (folder / name).mkdir()
    (folder / "mypackage" / "__init__.py").touch()
    shutil.copy(pastiche_bin, folder / "pastiche")

    state = vgg16_of_few_values()
    torch.save(state, folder / VGG16[0])
    torch.save({name: -tensor for name, tensor in state.items()}, folder / "my.pth")  # which nobody has published
    pack(folder / VGG16[0], folder / VGG16_PACKED[0], bits=4, preprocessing="torch")
    unpack("vgg19", folder / "vgg19-caffe.pth", layout="caffe")
    (folder / "vgg19-caffe.pth").rename(folder / VGG19[0])
    pack("vgg19", folder / VGG19_PACKED[0], bits=4)
    narrow = Arbitrary(ArbitraryNetwork((4, 6, 8), predictor=(8,) * 9))
    write(folder / ARBITRARY[0], unquantized(narrow, "for a test"))
    for first, *others in (VGG16, VGG16_PACKED, VGG19, VGG19_PACKED, ARBITRARY):
        for other in others:
            os.link(folder / first, folder / other)
    damaged = bytearray((folder / VGG19_PACKED[0]).read_bytes())
    damaged[5_000_000] ^= 1
    (folder / "damaged.safetensors").write_bytes(damaged)
    vgg13 = random_arrays(ARCHITECTURES["vgg13"], upto="conv1_2")
    record = {"architecture": "vgg13", "preprocessing": "torch"}
    write_file(folder / "vgg13.safetensors", write_safetensors(vgg13, record))
    return folder


def vgg16_of_few_values() -> dict[str, Tensor]:
    """Random weights under torchvision's names, so few values in each layer that k-means takes no time."""
    arrays = random_arrays(ARCHITECTURES["vgg16"])
    places = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    state = {}
    for place, convolution in zip(places, ARCHITECTURES["vgg16"].convolutions, strict=True):
        for part in ("weight", "bias"):
            array = arrays[f"{convolution.name}.{part}"]
            state[f"features.{place}.{part}"] = torch.from_numpy(np.round(array, 2) / convolution.in_channels**0.5)
    return state


@pytest.fixture
def folder(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the prepared folder to work in; and what takes minutes made to take seconds."""
    shutil.copytree(prepared, tmp_path / "page", copy_function=os.link)  # no command changes a file in its place
    monkeypatch.chdir(tmp_path / "page")
    monkeypatch.syspath_prepend(tmp_path / "page")
    digest = sha256(read_file(VGG16[0]))
    monkeypatch.setattr("vggquant.files.sources.PUBLISHED", {digest[:8]: PUBLISHED["397923af"]})
    monkeypatch.setattr(progress, "SHORT", math.inf)  # lines of progress depend on the machine
    monkeypatch.setattr(study, "TRANSFER", StyleOptions(steps=2, precision="float32"))
    monkeypatch.setattr(sample_pictures, "PIXELS_PER_PICTURE", 4096)
    monkeypatch.setattr(sample_pictures, "GENERATED", 2)
    monkeypatch.setattr(measuring, "LOADS", 1)
    monkeypatch.setattr(calibration_pictures, "GENERATED", 2)
    monkeypatch.setattr(calibration_pictures, "PIXELS", 4096)
    monkeypatch.setattr(calibration, "POSITIONS", 2)
    monkeypatch.setattr(calibration, "LEAST_POSITIONS", 2000)
    with toy_family():
        yield tmp_path / "page"


def names() -> dict[str, Any]:
    """What the Python of a page may use without making it."""
    generator = torch.Generator().manual_seed(0)

    def images(count: int) -> Tensor:
        return torch.rand(count, 3, 64, 80, generator=generator)

    teacher = Arbitrary(ArbitraryNetwork((4, 6, 8), predictor=(8,) * 9))
    networks = {"predict": teacher.predictor, "paint": teacher.transfer, "module": ToyModule(8, 5)}
    return {"images": images(2), "content": images(1), "style": images(1), **networks}


def run_python(page: Path, block: Block, namespace: dict[str, Any]) -> str:
    """Run a block, under the numbers of its page's lines, and return what it prints."""
    text = block.text
    for meant, used in SUBSTITUTES.items():
        text = text.replace(meant, used)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile("\n" * (block.line - 1) + text, page, "exec"), namespace)
    return printed.getvalue()


def lines_of_shell(text: str) -> list[str]:
    """The command lines of a block, with those that a backslash continues joined."""
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def shortened(command: str, arguments: list[str], *, shown: bool) -> list[str]:
    """Options that let a command take seconds; of those that are given twice the last counts."""
    if command == "stylize" and "--network" not in arguments and {"-o", "--out"} & set(arguments):
        return ["--steps", "2", *(["--size", "64"] if "--size" in arguments else ["--pixels", "4000"])]
    if command == "pack" and "--calibrate" in arguments:
        return ["--upto", "relu2_2", "--quiet"]
    if command == "pack" and "--max-size" in arguments and not shown:
        return ["--upto", "relu2_2"]
    if command == "train" and "adain" in arguments:  # begun anew, it would have to pack three times as many weights
        start = [] if "--start" in arguments else ["--start", "adain"]
        return [*start, "--steps", "2", "--size", "32", "--batch", "1", "--device", "cpu"]
    if command == "train":
        return ["--steps", "2", "--size", "32", "--batch", "1", "--style-pixels", "2500"]
    if command == "distil":
        part = ["--size", "32", "--style-size", "32"] if "predictor" not in arguments else []
        return ["--steps", "2", "--batch", "1", "--bits", "2", *part]
    if command == "compare" and "--widths" in arguments and not shown:
        return ["--widths", "4"]
    return []


def run_vggquant(line: str, *, shown: bool) -> tuple[str, bool]:
    """Run a command line in this process; return what it prints, and whether its figures are those of the page."""
    words, comment = shlex.split(line, comments=True)[1:], line.partition("# ")[2]
    command, *arguments = (WORDS.get(word.removesuffix("..."), word.removesuffix("...")) for word in words)
    arguments = [OUT.get(command, word) if word == "OUT" else word for word in arguments]
    arguments = [found for word in arguments for found in sorted(glob.glob(word)) or [word]]
    more = shortened(command, arguments, shown=shown)
    force = ["--force"] if command in OUT and "-h" not in arguments else []
    result = run(command, *arguments, *more, *force)
    refused = re.match(r"exit code (\d+)", comment)
    assert result.exit_code == (int(refused[1]) if refused else 0), f"{line}\n{result.output}"
    return result.output, not more and command != "compare"


def run_shell(block: Block) -> tuple[str, bool]:
    """Run or parse each line of a block; return what those that run print, and whether its figures are the page's."""
    printed, exact = "", True
    for line in lines_of_shell(block.text):
        if line.startswith("vggquant "):
            output, same = run_vggquant(line, shown=block.output is not None)
            printed, exact = printed + output, exact and same
        else:
            assert line.startswith(tuple(PARSED)), f"neither run nor parsed: {line}"
            if os.name == "posix":  # elsewhere bash may be that of a Linux which is not installed
                subprocess.run(["bash", "-n"], input=line, text=True, check=True)
    return printed, exact


NUMBER = r"(?<![\w.])\d+(?:,\d{3})*(?:\.\d+)?(?:e[+-]?\d+)?(?!\w)"  # not those of a name such as relu4_2


def is_shown(shown: str, printed: str, *, exact: bool) -> bool:
    """Whether a page shows what was printed, where … stands for what is left out.

    How much space is between words does not count, since the width of a column may depend on a time. Numbers do not
    count if the command was shortened. If they do, they may differ by 2%, as they do from one processor to another.
    """
    pattern = ""
    for part in re.split(rf"(…|\s+|{NUMBER})", shown.strip()):
        if part == "…":
            pattern += ".*?"
        elif part.isspace():
            pattern += r"\s+"
        else:
            pattern += f"({NUMBER})" if re.fullmatch(NUMBER, part) else re.escape(part)
    found = re.fullmatch(pattern, printed.strip(), re.DOTALL)
    if found is None:
        return False
    pairs = zip(re.findall(NUMBER, shown), found.groups(), strict=True)
    return not exact or all(math.isclose(*(float(n.replace(",", "")) for n in pair), rel_tol=0.02) for pair in pairs)


def run_page(page: Path) -> None:
    namespace = names()
    for block in blocks(page):
        if block.kind == PYTHON:
            printed, exact = run_python(page, block, namespace), True
        elif block.kind == SHELL and not (page.name == "README.md" and block.text.startswith(HELD_BY_THE_GATE)):
            printed, exact = run_shell(block)
        else:
            continue
        if block.output is not None:
            message = f"{page}:{block.line} shows\n{block.output}\nbut it prints\n{printed}"
            assert is_shown(block.output, printed, exact=exact), message


@pytest.mark.usefixtures("folder")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:pastiche")  # of what pastiche itself asks of Pillow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_block_runs(page: Path) -> None:
    run_page(page)


def test_no_block_is_of_a_kind_that_nothing_holds() -> None:
    kinds = {block.kind.partition(" ")[0] for page in PAGES for block in blocks(page)}
    assert kinds - {PYTHON, SHELL} <= HELD.keys()
    for test in HELD.values():
        module, _, name = test.rpartition(".")
        assert callable(getattr(importlib.import_module(module), name))


@pytest.mark.parametrize(
    ("shown", "exact", "same"),
    [
        ("file  1,010 bytes, 8.0 times\n…", True, True),
        ("file 1,000 bytes, …", False, True),
        ("…\nrelu4_2 24 dB", True, True),
        ("file 1,100 bytes, 8.0 times\n…", True, False),
        ("…\nrelu4_3 24 dB", False, False),
        ("file 1,010 bytes, 8.0 times", False, False),
        ("relu4_2 24 dB", False, False),
    ],
)
def test_what_counts_as_shown(shown: str, exact: bool, same: bool) -> None:
    assert is_shown(shown, "file 1,010 bytes, 8.0 times\nrelu4_2  24.1 dB\n", exact=exact) is same


def test_toml_is_that_of_the_example() -> None:
    lines = (ROOT / "examples" / "weights-package" / "pyproject.toml").read_text().splitlines()
    example = {line.partition("  #")[0] for line in lines}
    for page in PAGES:
        for block in blocks(page):
            assert block.kind != "toml" or {*block.text.splitlines()} <= example, page


def test_the_gate_runs_the_first_blocks_of_the_readme() -> None:
    first, second, *others = (block.text for block in blocks(ROOT / "README.md"))
    assert (first.startswith(HELD_BY_THE_GATE[0]), second.startswith(HELD_BY_THE_GATE[1])) == (True, True)
    assert not [text for text in others if text.startswith(HELD_BY_THE_GATE)]
