"""ONNX files of networks that paint, run by onnxruntime beside torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import run
from vggquant import load_stylizer, unpack
from vggquant.errors import OptionError
from vggquant.files.container import write
from vggquant.models import onnx_files
from vggquant.models.johnson import Johnson
from vggquant.networks.johnson import JohnsonNetwork
from vggquant.training.packing import palettized, unquantized


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("onnx") / "painter.safetensors"
    write(path, palettized(unquantized(Johnson(JohnsonNetwork.stock("tiny", 0.25, 1)), "for a test"), 8, None))
    return path


def test_onnxruntime_paints_what_torch_paints_at_any_size(packed: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    report = unpack(packed, out := tmp_path / "painter.onnx")
    assert (report.bytes, report.dtype, report.layout) == (out.stat().st_size, "float32", "vggquant")
    model = onnx.load(out)
    onnx.checker.check_model(model)
    assert [entry.version for entry in model.opset_import if entry.domain == ""] == [onnx_files.OPSET]
    assert any(entry.value.startswith("for a test") for entry in model.metadata_props)
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    (entrance,), (exit_,) = session.get_inputs(), session.get_outputs()
    assert (entrance.name, entrance.shape, exit_.name) == ("images", ["batch", 3, "height", "width"], "paintings")
    painter = load_stylizer(packed)
    for shape in ((1, 3, 48, 64), (2, 3, 37, 50), (1, 3, 8, 9)):
        images = torch.rand(shape)
        (found,) = session.run(None, {"images": images.numpy()})
        np.testing.assert_allclose(found, painter(images).numpy(), atol=1e-4)


def test_other_networks_and_missing_packages_are_refused(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OptionError, match=r"expected a network that paints in one style for \.onnx, got .* vgg"):
        unpack("vgg19", tmp_path / "x.onnx")
    with pytest.raises(OptionError, match=r"expected float32 for \.onnx, got float16"):
        unpack(packed, tmp_path / "x.onnx", dtype="float16")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = run("unpack", packed, tmp_path / "x.onnx")
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: {packed}: expected onnx for ONNX files, got no such package; pip install 'vggquant[onnx]'\n"
    )
    assert not [*tmp_path.iterdir()]
