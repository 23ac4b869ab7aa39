from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import GOLDEN, run
from vggquant.files.sources import embedded_path
from vggquant.page.page import page_of


def test_page_is_written_and_reported(tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    result = run("page", "starry", "arbitrary", "-o", out)
    assert result.exit_code == 0
    assert out.read_bytes() == page_of(["starry", "arbitrary"])
    assert result.stdout == f"{out}: 2 networks, {out.stat().st_size:,} bytes\n"
    assert "camera" in result.stderr
    assert run("page", "starry", "-o", out).exit_code == 1
    again = run("page", "starry", "-o", out, "--force", "-q")
    assert (again.stdout, again.stderr) == (f"{out}: 1 network, {out.stat().st_size:,} bytes\n", "")


@pytest.mark.parametrize(
    ("networks", "said"),
    [
        (["vgg19"], "vgg19: expected a network that paints, got a network of the family vgg; name one that"),
        ([GOLDEN / "planes-4.safetensors"], "expected a network that paints, got a network of the family vgg"),
        (["starry", "adain"], "adain: expected a network small and quick enough for a page, got one of"),
        (["nothing"], "nothing: expected a readable file, got No such file"),
        ([GOLDEN / "golden.json"], "expected a safetensors file, got"),
        (["b&amp;.safetensors"], "Error: b&amp;.safetensors: expected a safetensors file, got 3 bytes"),
    ],
)
def test_what_paints_not_is_refused_in_one_line(
    networks: list[object], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b&amp;.safetensors").write_bytes(b"<b>")
    result = run("page", *networks, "-o", "page.html")
    assert result.exit_code == 1
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "page.html").exists()


def test_a_damaged_network_is_refused(tmp_path: Path) -> None:
    data = bytearray(embedded_path("starry").read_bytes())
    data[-5] ^= 1
    (tmp_path / "mine").write_bytes(data)
    result = run("page", tmp_path / "mine", "-o", tmp_path / "page.html")
    assert result.exit_code == 1
    assert "expected checksum" in result.stderr


def test_names_and_outputs_are_checked(tmp_path: Path) -> None:
    twice = run("page", "starry", "starry", "-o", tmp_path / "page.html")
    assert twice.exit_code == 2
    assert "expected networks of different names, got starry; name each network once, or rename a file" in twice.stderr
    assert "NET" in twice.stderr
    own = tmp_path / "mine.safetensors"
    own.write_bytes(embedded_path("starry").read_bytes())
    result = run("page", own, "-o", own, "--force")
    assert "expected an output other than the source" in result.stderr
    assert run("page", "-o", "page.html").exit_code == 2
    assert run("page", "starry").exit_code == 2
