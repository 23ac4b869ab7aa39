from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from tests.conftest import GOLDEN, run
from vggquant.cli.output import as_typed, echo, print_json, print_pairs, print_table
from vggquant.cli.pack import pack

SMALL = GOLDEN / "planes-4.safetensors"


def test_json_is_one_object_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "x.safetensors"
    packed = json.loads(run("pack", SMALL, out, "--bits", "4", "--json").stdout)
    assert packed["info"]["bytes"] == out.stat().st_size
    info = json.loads(run("info", out, "--json", "--wheel").stdout)
    assert info["architecture"] == "vgg11"
    assert (info["layers"][0]["sqnr_db"], info["layers"][0]["lossless"]) == (12.5, False)
    assert 0 < info["wheel_bytes"] < out.stat().st_size + 500
    verified = json.loads(run("verify", out, "--against", SMALL, "--json").stdout)
    assert (verified["sqnr_db"], verified["lossless"]) == (None, True)  # infinite
    assert verified["against"][0]["largest_error"] == 0
    alone = json.loads(run("verify", out, "--json").stdout)
    assert (alone["sqnr_db"], alone["lossless"], alone["against"]) == (None, None, [])  # not compared


def test_what_json_has_no_number_for_is_null(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": math.inf, "b": [1.5, math.nan], "c": {"d": (-math.inf, "x", None)}})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [1.5, None], "c": {"d": [None, "x", None]}}


def test_json_is_one_line_whatever_a_file_is_called(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": 1}, file="x\ny\udcff")
    shown = capsys.readouterr().out
    assert shown.count("\n") == 1
    assert list(json.loads(shown).items()) == [("file", "x\ny\udcff"), ("a", 1)]


def test_a_line_stays_one_line_of_bounded_length(capsys: pytest.CaptureFixture[str]) -> None:
    echo("a\nb\x1b[2J" + "x" * 10_000, err=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("a\\nb\\x1b[2Jxxx")
    assert shown.err.count("\n") == 1
    assert len(shown.err) < 5000


def test_tables_and_pairs_are_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("layer", "bytes"), [("a", "1,000"), ("longest", "9")])
    assert capsys.readouterr().out == "layer    bytes\na        1,000\nlongest      9\n"
    print_pairs(("a", "1"), ("name", "2"))
    assert capsys.readouterr().out == "\na     1\nname  2\n"


def test_a_table_fits_however_long_its_names_are(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("", "first value", "second value"), [("reference", "y" * 30, "z" * 30), ("x" * 90, "1", "2")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["first", "second"]
    assert lines[2].split() == ["reference", "y" * 30, "z" * 30]
    assert lines[3] == "x" * 90
    assert lines[4].split() == ["1", "2"]
    assert {len(line) for line in lines if line != lines[3]} == {80}


def test_arguments_are_named_as_they_are_typed() -> None:
    text = "leave out `bits` or `max_size`, pass `force=True`, `preprocessing='torch'`, `source` or `layers`"
    typed = "leave out --bits or --max-size, pass --force, --preprocessing torch, SOURCE or layers"
    assert as_typed(text, pack) == typed
