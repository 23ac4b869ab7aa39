"""The house rules that a test can keep: one-way imports, light starts, complete surface, plain first lines."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import vggquant
from vggquant import unpack

PACKAGE = Path(vggquant.__file__).parent

# The flow, top to bottom: rooms, of which each imports only from those above; and within each, its modules likewise.
ROOMS: dict[str, tuple[tuple[str, ...], ...]] = {
    "": (("errors", "lazy_imports"), ("progress", "wording", "threads")),
    "isolation": (("messages",), ("child", "parent")),
    "networks": (("network",), ("arbitrary", "johnson", "vgg"), ("adain",), ("families",)),
    "codec": (("kmeans", "joining"), ("huffman", "entropy"), ("bitstream",), ("palette",)),
    "files": (
        ("disk", "known_files", "scratch"),
        ("contents",),
        ("safetensors", "weights", "torch_archives", "torch_pickles", "hdf5_plain"),
        ("fields", "tensors"),
        ("version1", "version2", "dtypes", "torch_files", "hdf5_files", "state_dicts"),
        ("container", "layouts", "preparing"),
        ("recognition",),
        ("convolutions",),
        ("sources",),
    ),
    "pictures": (("generated", "colors", "checks"), ("decoding",), ("files",), ("folders",)),
    "models": (
        ("borders", "devices", "gradients", "features", "half", "layout", "mixing"),
        ("preprocessing", "frozen", "phases", "tiles"),
        ("arbitrary", "johnson", "vgg"),
        ("adain",),
        ("load", "painters", "onnx_files"),
        ("half_safe",),
    ),
    "packing": (
        ("budget", "rates", "widths", "inspection", "moments", "rounding", "calibration_pictures"),
        ("quantizing", "unpacker"),
        ("rated",),
        ("goals",),
        ("calibration",),
        ("packer",),
    ),
    "style": (
        ("options",),
        ("descent", "losses", "scales"),
        ("task", "style_files"),
        ("checks", "memory", "states"),
        ("transfer", "loading", "inputs", "perceptual"),
        ("resuming",),
        ("feedforward",),
        ("any_style",),
        ("painting",),
    ),
    "training": (
        ("options",),
        ("checks", "crops", "checkpoints", "processes", "packing", "normalising"),
        ("pruning", "rounded", "views"),
        ("trainer",),
        ("objective", "adain_objective", "distil_objective", "running"),
        ("training", "adain", "distilling"),
    ),
    "comparison": (
        ("sample_pictures", "subjects"),
        ("measuring",),
        ("paintings", "table"),
        ("study",),
        ("drawing",),
        ("report",),
    ),
    "page": (("page",),),
    "cli": (
        ("output", "options"),
        ("progress", "failures"),
        ("training",),
        ("pack", "unpack", "info", "verify", "compare", "stylize", "train", "prune", "distil", "page"),
        ("app",),
    ),
}
ORDER = [{f"{room}.{module}".lstrip(".") for module in row} for room, rows in ROOMS.items() for row in rows] + [
    {"__init__", "__main__", "options"}
]
# a room's own __init__ only offers what its modules define
LEVEL = {module: level for level, row in enumerate(ORDER) for module in row}
MODULE_LINES, FUNCTION_LINES = 400, 60
HEAVY = ("torch", "kmeans1d", "PIL", "h5py", "matplotlib")


def source(module: str) -> Path:
    return PACKAGE / f"{module.replace('.', '/')}.py"


def imported(module: str) -> set[str]:
    """Modules of ours that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(source(module).read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "vggquant":
            whole = node.module.removeprefix("vggquant").lstrip(".")
            names = [f"{whole}.{alias.name}".lstrip(".") for alias in node.names] + [whole]
        elif isinstance(node, ast.Import):
            names = [a.name.removeprefix("vggquant.") for a in node.names if a.name.startswith("vggquant.")]
        assert not names or set(names) & set(LEVEL), f"{module} imports {names}, not from a module"
        found |= set(names) & set(LEVEL)
    return found


MODULES = [path for path in sorted(PACKAGE.rglob("*.py")) if path.name != "__init__.py"]


def test_every_module_has_its_row() -> None:
    found = {str(path.relative_to(PACKAGE).with_suffix("")).replace("/", ".") for path in MODULES}
    assert found | {"__init__"} == set(LEVEL)


@pytest.mark.parametrize("module", sorted(LEVEL))
def test_imports_point_one_way(module: str) -> None:
    wrong = {other for other in imported(module) if LEVEL[other] >= LEVEL[module]}
    assert not wrong, f"{module} imports {wrong}, which is not above it"


@pytest.mark.parametrize("room", [room for room in ROOMS if room])
def test_a_rooms_own_init_offers_what_its_modules_define(room: str) -> None:
    for node in ast.walk(ast.parse((PACKAGE / room / "__init__.py").read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("vggquant"):
            assert node.module == "vggquant.lazy_imports" or node.module.startswith(f"vggquant.{room}."), node.module


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=str)
def test_imports_are_absolute(path: Path) -> None:
    nodes = ast.walk(ast.parse(path.read_text()))
    assert not any(isinstance(node, ast.ImportFrom) and node.level for node in nodes)


def test_quantization_and_style_never_meet() -> None:
    def rooms(module: str) -> set[str]:
        return {other.rpartition(".")[0] for other in imported(module)}

    assert not rooms("style.transfer") & {"codec", "files", "packing"}
    assert not rooms("models.vgg") & {"codec", "files", "packing"}
    assert all(rooms(f"codec.{module}") <= {"", "codec"} for row in ROOMS["codec"] for module in row)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=str)
def test_first_lines_say_what_a_module_does(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring
    assert docstring.splitlines()[0].endswith((".", ":"))


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=str)
def test_modules_and_functions_are_short(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= MODULE_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):  # with its docstring, without its decorators
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < FUNCTION_LINES, node.name


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
        "from vggquant.page.page import page_of; page_of(['starry'])",
        COMMAND.format(arguments=["--help"]),
    ],
)
def test_light_starts(code: str) -> None:
    assert loaded_by(code) == set()


@pytest.mark.parametrize("ending", [".safetensors", ".pth"])
def test_packing_a_file_needs_no_torch(ending: str, tmp_path: Path) -> None:
    unpack("vgg19", tmp_path / f"source{ending}")
    arguments = ["pack", str(tmp_path / f"source{ending}"), str(tmp_path / "x"), "--bits", "2", "--upto", "relu1_1"]
    arguments += ["--preprocessing", "caffe"]
    assert loaded_by(COMMAND.format(arguments=arguments)) == set()


def test_comparing_on_generated_pictures_needs_the_base_install_alone() -> None:
    arguments = ["compare", "vgg19", "--widths", "1", "--upto", "relu1_1"]
    assert loaded_by(COMMAND.format(arguments=arguments)) == {"torch"}


def test_the_public_surface() -> None:
    for name in vggquant.__all__:
        assert getattr(vggquant, name).__doc__
        assert name in dir(vggquant)
    assert set(vggquant.__all__) >= {"VGG", "VggQuantError", "load_quantized_state_dict", "load_quantized_vgg", "pack"}
    assert not any((PACKAGE / f"{name}.py").exists() for name in vggquant.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        vggquant.nothing  # noqa: B018


def test_pickles_are_never_trusted() -> None:
    for path in PACKAGE.rglob("*.py"):
        assert "weights_only=False" not in path.read_text()
