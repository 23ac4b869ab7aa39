"""The house rules that a test can keep: one-way imports, light starts, complete surface, plain first lines."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import vggquant

PACKAGE = Path(vggquant.__file__).parent

# The flow, top to bottom; a module imports only from rows above its own.
ROWS = (
    ("errors",),
    ("arch", "progress", "options", "pictures", "budget", "devices", "gradients"),
    ("kmeans", "coding", "storage", "descent"),
    ("palette", "tensors"),
    ("weights",),
    ("container", "weightfiles"),
    ("layouts",),
    ("sources",),
    ("inspection",),
    ("model", "images", "features"),
    ("load", "style"),
    ("packing", "painting"),
    ("comparison",),
    ("report",),
    ("cli",),
    ("__init__", "__main__"),
)
LEVEL = {module: level for level, row in enumerate(ROWS) for module in row}
HEAVY = ("torch", "kmeans1d", "PIL", "h5py", "matplotlib")


def imported(module: str) -> set[str]:
    """Modules of ours that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("vggquant"):
            found.add(node.module.removeprefix("vggquant").lstrip(".") or "__init__")
        elif isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("vggquant.") for alias in node.names if alias.name.startswith("vggquant")}
    return found


def test_every_module_has_its_row() -> None:
    assert {path.stem for path in PACKAGE.glob("*.py")} == set(LEVEL)


@pytest.mark.parametrize("module", LEVEL)
def test_imports_point_one_way(module: str) -> None:
    wrong = {other for other in imported(module) if LEVEL[other] >= LEVEL[module]}
    assert not wrong, f"{module} imports {wrong}, which is not above it"


def test_quantization_and_style_never_meet() -> None:
    assert not imported("style") & {"palette", "container", "weights", "load", "coding", "kmeans"}
    assert not imported("model") & {"palette", "container", "weights", "coding", "kmeans", "storage"}
    assert not imported("container") & {"model", "load", "style"}
    assert imported("kmeans") | imported("coding") <= {"errors"}


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda path: path.stem)
def test_first_lines_say_what_a_module_does(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring
    assert docstring.splitlines()[0].endswith((".", ":"))


def loaded_by(code: str) -> set[str]:
    """Heavy packages that a fresh interpreter has loaded after some code."""
    script = f"import sys\n{code}\nprint('|' + ' '.join(m for m in {HEAVY} if m in sys.modules))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(result.stdout.rpartition("|")[2].split())


COMMAND = (
    "from vggquant.cli import cli\ntry:\n    cli({arguments})\nexcept SystemExit as stop:\n    assert not stop.code"
)


@pytest.mark.parametrize(
    "code",
    [
        "import vggquant",
        "import vggquant; vggquant.pack, vggquant.VggQuantError",
        COMMAND.format(arguments=["info", "vgg19"]),
        COMMAND.format(arguments=["verify", "vgg19"]),
        COMMAND.format(arguments=["--help"]),
    ],
)
def test_light_starts(code: str) -> None:
    assert loaded_by(code) == set()


def test_packing_a_safetensors_file_needs_no_torch(tmp_path: Path) -> None:
    out = tmp_path / "x.safetensors"
    arguments = ["pack", "vgg19", str(out), "--bits", "2", "--upto", "relu1_1"]
    assert loaded_by(COMMAND.format(arguments=arguments)) == set()


def test_the_public_surface() -> None:
    for name in vggquant.__all__:
        assert getattr(vggquant, name).__doc__
        assert name in dir(vggquant)
    assert set(vggquant.__all__) >= {"VGG", "VggQuantError", "load_quantized_state_dict", "load_quantized_vgg", "pack"}
    assert not any((PACKAGE / f"{name}.py").exists() for name in vggquant.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        vggquant.nothing  # noqa: B018


def test_pickles_are_never_trusted() -> None:
    for path in PACKAGE.glob("*.py"):
        assert "weights_only=False" not in path.read_text()
