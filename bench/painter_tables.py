"""Tables of networks that paint in one pass, from bench/results. Pages are left to `tables`."""

from __future__ import annotations

from bench.markdown import load, prose, span, table, when

_WIDTHS = ("8", "6", "5", "4")


def one_pass() -> str:
    """`starry` beside the published network, for docs/one-pass.md."""
    result = load("feedforward")
    sizes, times = result["bytes"], result["milliseconds"]
    names = {"untouched": "the photographs themselves", "peer": "the published network", "starry": "`starry`"}
    rows = []
    for key, name in names.items():
        found = result["quality"][key]
        size = f"{sizes[key]:,} bytes" if key in sizes else "-"
        time = f"{times[key]:.0f} ms" if key in times else "-"
        errors = (f"{found[metric]:.3f}" for metric in ("content", "style"))
        rows.append((name, size, time, *errors, f"{found['yellow_against_blue']:.1f}"))
    faster = 1e3 * result["optimisation_s"] / times["starry"]
    decibels = {width: [row[width] for row in result["psnr"]] for width in _WIDTHS}
    widths = ", ".join(f"{span(found)} dB with {width} bits" for width, found in decibels.items())
    header = "| | file | 640 × 480 pixels | content error | style error | yellow against blue |"
    return table(header, rows) + prose(
        f"In the painting yellow against blue is {result['yellow_against_blue_of_the_painting']:.1f}. The optimisation "
        f"takes {result['optimisation_s']:.0f} s for 500 steps at this size, {faster:,.0f} times as long as `starry`. "
        "What the four networks paint is as near to what they paint in float32, before packing, as a PSNR of "
        f"{widths}; 8 bits are embedded. Measured by `python -m bench.feedforward` on {when(result)} "
        "([results](../bench/results/feedforward.json))."
    )


def in_a_browser() -> str:
    """How long the page paints, for docs/commands/page.md."""
    result = load("page")
    roads = {"plain": "plain JavaScript, one core", "webgl": "WebGL"}
    rows = [(roads[row["road"]], row["browser"].replace("/", " "), f"{row['seconds']:.2f} s") for row in result["rows"]]
    size = f"{result['width']} × {result['height']}"
    return table(f"| | browser | `{result['network']}`, {size} pixels |", rows) + prose(
        f"Measured by `python -m bench.page` on {when(result)} ([results](../../bench/results/page.json))."
    )


def continuum() -> str:
    """Width and depth, for docs/one-pass.md."""
    result = load("continuum")
    rows = [
        (
            f"`{row['network'].split()[0]}` {row['network'].partition(' ')[2]}",
            f"{row['weights']:,}",
            f"{row['bytes_at_8']:,}",
            f"{row['bytes_at_5']:,}",
            f"{row['milliseconds']:.0f} ms",
            f"{row['content']:.3f}",
            f"{row['style']:.3f}",
        )
        for row in result["rows"]
    ]
    found = {row["network"]: row for row in result["rows"]}
    full, small = found["johnson α=1.0 B=5"], found["tiny α=0.3 B=3"]
    training, faster = result["training"], full["milliseconds"] / small["milliseconds"]
    return table(
        "| network | weights | bytes, 8 bits | 5 bits | 640 × 480 | content error | style error |", rows
    ) + prose(
        f"All of them were trained for *Starry Night* for the same {training['steps']} steps of {training['batch']} "
        f"crops of {training['size']} pixels, which is only the beginning of a training: the errors show which "
        f"networks learn faster, not what they reach. `tiny` has {full['weights'] / small['weights']:.0f} times fewer "
        f"weights than Johnson's own and paints {faster:.1f} times as fast (in the article the narrowed network is 1.6 "
        "times as fast). "
        f"Measured by `python -m bench.continuum` on {when(result)} ([results](../bench/results/continuum.json))."
    )
