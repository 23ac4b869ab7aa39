from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from tests.conftest import GOLDEN, run
from vggquant.files.container import read, write

SMALL = GOLDEN / "planes-4.safetensors"


def test_info_of_the_embedded_weights() -> None:
    info = json.loads(run("info", "vgg19", "--json").stdout)
    assert info["weights"] == 20_018_880
    assert info["float32_bytes"] == 80_097_536
    assert info["fits_pypi"]
    assert info["complete"]
    assert info["sha256"] == "ec61039e8eb399aedb4640dd658e137a1385113ce3b7accfd16644d94e9abb53"


def test_texts_of_strangers_are_shown_harmless(tmp_path: Path) -> None:
    weights = read(SMALL)
    hostile = replace(weights.provenance, layout="\x1b[31m\n", attribution="\x1b[2J", changes="a\rb")
    write(tmp_path / "x", replace(weights, provenance=hostile))
    result = run("info", tmp_path / "x")
    assert result.exit_code == 0
    assert "\x1b" not in result.output
    assert "a\\rb" in result.stdout


def test_info_says_which_layers_lost_nothing() -> None:
    lines = run("info", "vgg19").stdout.splitlines()
    assert lines[1].split()[-1] == "lossless"
    assert lines[-1] == "lossless: as the source, which may itself have been quantized"
    lines = run("info", SMALL).stdout.splitlines()
    assert lines[1].split()[-2:] == ["12.50", "dB"]
    assert lines[-1].startswith("SQNR: signal-to-quantization-noise ratio")
    assert "lossless" not in "".join(lines)


def test_info_fits_a_terminal() -> None:
    for path in ("vgg19", SMALL, GOLDEN / "scale.safetensors", GOLDEN / "huffman-3.safetensors"):
        for line in run("info", path, "--wheel").stdout.splitlines():
            assert len(line) <= 80, line


def test_several_files_are_shown_one_after_another(tmp_path: Path) -> None:
    other, missing = GOLDEN / "planes-2.safetensors", tmp_path / "missing"
    result = run("info", SMALL, missing, other)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {missing}: expected a readable file, got No such file or directory")
    assert result.stderr.count("\n") == 1
    alone = [run("info", path).stdout for path in (SMALL, other)]
    assert result.stdout == f"{SMALL}:\n{alone[0]}\n{other}:\n{alone[1]}\n"
    found = run("info", "--json", SMALL, missing, other)
    assert found.exit_code == 1
    objects = [json.loads(line) for line in found.stdout.splitlines()]
    assert [each["file"] for each in objects] == [str(SMALL), str(other)]
    assert [each["layers"][0]["bits"] for each in objects] == [4, 2]
    assert run("info", SMALL, other).exit_code == 0
