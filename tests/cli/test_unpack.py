from __future__ import annotations

import json
from pathlib import Path

from tests.conftest import GOLDEN, run

SMALL = GOLDEN / "planes-4.safetensors"


def test_unpack_says_what_the_file_cannot(tmp_path: Path) -> None:
    result = run("unpack", SMALL, tmp_path / "x.pth")
    assert result.exit_code == 0
    assert "preprocessing torch" in result.stderr
    assert "Drawn at random" in result.stderr
    assert run("unpack", SMALL, tmp_path / "x.safetensors").stderr == ""
    quiet = run("unpack", SMALL, tmp_path / "y.pth", "--quiet")
    assert (quiet.stderr, quiet.stdout) == ("", result.stdout.replace("x.pth", "y.pth"))


def test_unpack_rounds_and_reports_as_json(tmp_path: Path) -> None:
    out = tmp_path / "x.pth"
    result = run("unpack", SMALL, out, "--dtype", "bfloat16", "--json")
    assert result.stderr == ""
    assert json.loads(result.stdout) == {
        "bytes": out.stat().st_size,
        "layout": "torchvision",
        "dtype": "bfloat16",
        "preprocessing": "torch",
        "attribution": "Drawn at random, free of rights",
        "self_describing": False,
    }
    again = run("unpack", SMALL, out, "--dtype", "float16", "--force")
    assert again.stdout.startswith(f"{out}: torchvision layout, float16, ")
    refused = run("unpack", SMALL, tmp_path / "x.h5", "--dtype", "bfloat16")
    assert refused.exit_code == 2
    assert "--dtype: expected float32 or float16 for .h5, got bfloat16; leave --dtype out or" in refused.stderr
