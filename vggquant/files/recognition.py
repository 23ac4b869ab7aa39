"""Which layout named tensors have, behind which prefix, and which VGG they are; each refusal says what would help.

The layouts themselves are described in `layouts`; reading the tensors is left to `convolutions`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

from vggquant.errors import OptionError, SourceError
from vggquant.files.layouts import KERNELS, Layout, tensor_names
from vggquant.files.tensors import SourceTensor
from vggquant.networks.vgg import ARCHITECTURES, Architecture

_BARE = r"\d+\.weight"  # torchvision's, in a state dict of `model.features`


@dataclass(frozen=True, eq=False)
class NamedTensors:
    """Tensors under the names of a layout.

    Args:
        layout: Which layout.
        tensors: By the layout's names.
        prefix: What was taken off all of these names, ``module.`` for instance.
        bare: Whether ``features.`` was put before them.
        others: Names of tensors without that prefix, which are none of the VGG's.
    """

    layout: Layout
    tensors: Mapping[str, SourceTensor]
    prefix: str
    bare: bool
    others: tuple[str, ...]

    def original(self, name: str) -> str:
        """What a tensor is called where it came from."""
        return self.prefix + (name.removeprefix("features.") if self.bare else name)

    @contextmanager
    def named_as_found(self) -> Iterator[None]:
        """Let errors about a tensor name it as it is called where it came from."""
        try:
            yield
        except SourceError as error:
            error.tensor = None if error.tensor is None else self.original(error.tensor)
            raise


def recognise_layout(tensors: Mapping[str, SourceTensor], asked: Layout | None = None) -> NamedTensors:
    """Find the layout of a VGG's tensors, and take off what other programs put before the names.

    Args:
        tensors: By the names they were found under. If those of the VGG share a prefix, others are left out.
        asked: The layout that the caller says it is.

    Raises:
        SourceError: The names are of no layout, of several, of another than asked for, or behind several prefixes.
    """
    found: dict[Layout, set[str]] = {
        layout: prefixes for layout, kernel in KERNELS.items() if (prefixes := _prefixes(tensors, kernel))
    }
    bare = not found
    if bare and (prefixes := _bare_prefixes(tensors)):
        found["torchvision"] = prefixes
    if not found:
        some = ", ".join(list(tensors)[:4]) or "no tensors"
        cure = "rename them; another network than a VGG needs a safetensors file with its record"
        raise SourceError("names such as features.0.weight, conv1_1.weight or block1_conv1/kernel", some, cure)
    several = " and ".join(found)
    own: Layout | None = "caffe" if asked == "vggquant" else asked
    if own is not None and own not in found:
        cure = "leave `layout` out" if len(found) == 1 else "choose one of these with `layout`"
        raise SourceError(f"names of the layout {asked}", f"names of {several}", cure)
    if own is None and len(found) > 1:
        raise SourceError("one layout", f"names of {several}", "choose one with `layout`")
    layout = next(iter(found)) if own is None else own
    return _rename(tensors, asked or layout, _one_prefix(found[layout]), bare)


def recognise_architecture(
    named: NamedTensors, batch_norm: bool, asked: Architecture | None, upto: str | None
) -> Architecture:
    """Find the VGG whose convolutions tensors are: all of it, or as far as the layer `upto` at least.

    Args:
        named: The tensors.
        batch_norm: Whether there are batch normalisations between the convolutions.
        asked: The VGG that the caller or the file says it is.
        upto: The deepest layer wanted.

    Raises:
        SourceError: They are those of no VGG, of several, of another than asked for, or of a part of one.
        OptionError: The VGG has no layer `upto`, or the tensors end before it.
    """
    kernel = re.compile(KERNELS["caffe" if named.layout == "vggquant" else named.layout])
    # the weights of batch normalisations have such names too, and one dimension
    present = [
        name
        for name, tensor in named.tensors.items()
        if kernel.fullmatch(name) and not (batch_norm and len(tensor.shape) == 1)
    ]
    pairs = {vgg: [*tensor_names(named.layout, vgg, batch_norm=batch_norm).values()] for vgg in ARCHITECTURES.values()}
    names = {vgg: [weight for weight, _ in found] for vgg, found in pairs.items()}
    possible = [vgg for vgg in names if asked in (None, vgg)]
    fitting = [vgg for vgg in names if _fits(vgg, names[vgg], {*present}, upto)]
    accepted = [vgg for vgg in fitting if vgg in possible]
    if len(accepted) == 1:
        return accepted[0]
    if accepted:
        raise SourceError(
            "one VGG that the layers fit", f"layers that fit {_listed(accepted)}", "choose one with `arch`"
        )
    if asked is not None:
        asked.layers_upto(upto)  # refuses a layer that it has not
        if fitting:
            first = next(name for name in (*names[asked], *present) if (name in present) != (name in names[asked]))
            cure = "pass " + " or ".join(f"`arch={vgg.name!r}`" for vgg in fitting)
            raise SourceError(f"the convolutions of {asked.name}", f"those of {_listed(fitting)}", cure, tensor=first)
    ending = [vgg for vgg in possible if present and _are_first(present, names[vgg])]
    biases = {bias for vgg in ending for _, bias in pairs[vgg][len(present) :]}
    if ending and biases.isdisjoint(named.tensors):
        _refuse_ending(ending, len(present), upto)
    closest = min(possible, key=lambda vgg: len({*names[vgg]} ^ {*present}))
    raise _gap(named, closest, names[closest], present)


def _fits(vgg: Architecture, names: list[str], present: set[str], upto: str | None) -> bool:
    """Whether tensors are convolutions of a VGG, all those among them that a layer needs."""
    if upto is not None and upto not in vgg.layers:
        return False
    return {*names[: len(vgg.convolutions_upto(upto))]} <= present <= {*names}


def _are_first(present: list[str], names: list[str]) -> bool:
    """Whether tensors are the first convolutions of a VGG."""
    return {*present} == {*names[: len(present)]}


def _refuse_ending(vggs: list[Architecture], count: int, upto: str | None) -> NoReturn:
    """Refuse tensors that end after so many convolutions, which may be those of several VGGs."""
    last = vggs[0].convolutions[count - 1].name
    if upto is not None:
        vggs[0].layers_upto(upto)
        raise OptionError(f"a layer up to {last}, where the weights end", upto, "choose one of these", tensor="upto")
    which = f" and as `arch` one of {_listed(vggs)}" if len(vggs) > 1 else ""
    expected = f"all convolutions of {vggs[0].name}" if len(vggs) == 1 else "all convolutions of a VGG"
    raise SourceError(expected, f"none behind {last}", f"pass `upto={last!r}`{which}")


def _gap(named: NamedTensors, vgg: Architecture, names: list[str], present: list[str]) -> SourceError:
    """What is wrong with tensors that are not the first convolutions of any VGG."""
    expected = f"the convolutions of {vgg.name} or another VGG"
    extra = next((name for name in present if name not in names), None)
    if extra is not None:
        return SourceError(expected, f"{named.original(extra)} too", "save those of the VGG alone", tensor=extra)
    index = next(index for index, name in enumerate(names) if name not in present)
    before = f", or pass `upto={vgg.convolutions[index - 1].name!r}`" if index else ""
    return SourceError(expected, f"no {named.original(names[index])}", f"save all of them{before}", tensor=names[index])


def _listed(vggs: list[Architecture]) -> str:
    return ", ".join(vgg.name for vgg in vggs)


def _prefixes(names: Iterable[str], kernel: str) -> set[str]:
    """What stands before the names of convolution weights."""
    matches = (re.fullmatch(rf"(?P<prefix>(.*\.)?){kernel}", name) for name in names)
    return {match["prefix"] for match in matches if match}


def _bare_prefixes(tensors: Mapping[str, SourceTensor]) -> set[str]:
    """What stands before names of torchvision's that lack their own prefix: ``0.weight``, ``2.weight`` and so on."""
    kernels = [name for name, tensor in tensors.items() if len(tensor.shape) == 4]
    return {prefix for prefix in _prefixes(kernels, _BARE) if f"{prefix}0.weight" in kernels}


def _one_prefix(prefixes: set[str]) -> str:
    """The prefix of the tensors that are meant: none if some have none."""
    if "" not in prefixes and len(prefixes) > 1:
        some = " and ".join(sorted(prefixes))
        raise SourceError("the weights of one VGG", f"some behind each of {some}", "save those of one alone")
    return "" if "" in prefixes else next(iter(prefixes))


def _rename(tensors: Mapping[str, SourceTensor], layout: Layout, prefix: str, bare: bool) -> NamedTensors:
    """Tensors without their prefix, and with the ``features.`` that bare names lack."""
    renamed, others = {}, []
    for name, tensor in tensors.items():
        own = name.removeprefix(prefix)
        if not name.startswith(prefix) or (bare and not re.match(r"\d+\.", own)):
            others.append(name)
        else:
            renamed[f"features.{own}" if bare else own] = tensor
    return NamedTensors(layout, renamed, prefix, bare, tuple(others))
