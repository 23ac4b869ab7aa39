"""Mutants of torch's files against torch's own reader, for `tests.fuzz`.

Most are changed anywhere; three in ten have only their pickles changed and are zipped up anew, so that what is behind
archives and checksums is reached. Each must be refused in one line, or hold the very tensors that torch.load finds in
it with ``weights_only=True``. Torch is asked only of what is not refused, some four in a hundred. What it would have
read and we refuse, such as negated tensors, is no wrong end.
"""

from __future__ import annotations

import io
import random
import struct
import time
import warnings
import zipfile
from collections import OrderedDict

import numpy as np
import torch

from tests.fuzz import SLOWEST, WrongEndError
from vggquant.errors import VggQuantError
from vggquant.files.contents import Content
from vggquant.files.tensors import WRAPPERS, WeightFile
from vggquant.files.torch_files import read_torch

OPCODES = (
    b"()]}.0123abcdehijlopqrstuBCDFGHIJKLMNPQRSTUVX\x80\x81\x82\x85\x86\x87\x88\x89\x8a\x8b\x8c\x8e\x8f\x91\x93\x94\x95"
)


def saved(content: object, *, archived: bool = True, protocol: int = 2) -> bytes:
    """The bytes of a torch file."""
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=archived, pickle_protocol=protocol)
    return buffer.getvalue()


class _Filled(OrderedDict[str, object]):
    """A dict that is pickled as a call with a list of pairs, as Python 2 did it."""

    def __reduce__(self) -> tuple[object, ...]:
        return OrderedDict, ([list(pair) for pair in self.items()],)


def _contents() -> list[object]:
    torch.manual_seed(0)
    both = torch.randn(20)
    state = OrderedDict(conv=torch.nn.Parameter(torch.randn(2, 3, 1, 1)), bias=both[2:4], more=both.reshape(4, 5).T)
    kinds = [torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.bool, torch.complex64]
    other = {str(kind): torch.ones(3, dtype=kind) for kind in kinds}
    negated = {"a": torch._neg_view(both[:3]), "b": torch.ones(2, dtype=torch.complex64).conj(), "c": both[3:5]}
    strided = {
        "expanded": both[:3].expand(4, 3),
        "twice": both[1:2].expand(5),
        "turned": both.reshape(2, 5, 2).permute(2, 0, 1),
        "apart": both.half()[1::3],
        "empty": torch.empty(0, 3),
        "scalar": torch.tensor(2.5, dtype=torch.bfloat16),
    }
    return [
        state,
        {"state_dict": state, "epoch": 3, "rate": 0.1},
        other,
        torch.nn.Linear(2, 1).state_dict(),
        {"state_dict": {"model": state, "best": 0.5}},
        _Filled(conv=both[:6].reshape(1, 6), inner=_Filled(bias=both[6:7])),
        negated,
        strided,
    ]


def _zipped(members: list[tuple[str, bytes]], *, wide: bool = False) -> bytes:
    """An archive as Python writes it, with sizes of 64 bits if it shall be wide."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that come twice
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, part in members:
                with archive.open(zipfile.ZipInfo(name), "w", force_zip64=wide) as member:
                    member.write(part)
    return buffer.getvalue()


def _members(data: bytes) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [(info.filename, archive.read(info)) for info in archive.infolist()]


SEEDS = [saved(content, archived=archived) for content in _contents() for archived in (True, False)]
SEEDS += [saved(content, protocol=4) for content in _contents()[:2]]
SEEDS += [_zipped(_members(saved(content)), wide=True) for content in _contents()[:2]]


def mutant(seed: int, number: int) -> tuple[bytes, str]:
    """A file, and whether its archive was made anew around a changed pickle: ``rezipped`` or ``raw``."""
    rng = random.Random(f"torch/{seed}/{number}")
    data = rng.choice(SEEDS)
    if number % 2 and data.startswith(b"PK"):
        return _rezipped(rng, data), "rezipped"
    return _changed(rng, data), "raw"


def _changed(rng: random.Random, data: bytes) -> bytes:
    """Some bytes flipped, replaced, inserted, removed, doubled or exchanged for those of another seed."""
    mutated = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        at = rng.randrange(len(mutated) + 1)
        end = min(len(mutated), at + rng.choice((1, 1, 2, 4, 8, 40)))
        match rng.randrange(7):
            case 0:
                mutated[at:end] = bytes(byte ^ 1 << rng.randrange(8) for byte in mutated[at:end])
            case 1:
                mutated[at:end] = rng.randbytes(end - at)
            case 2:
                mutated[at:at] = bytes(rng.choice(OPCODES) for _ in range(end - at))
            case 3:
                del mutated[at:end]
            case 4:
                mutated[at:at] = mutated[at:end] * rng.choice((1, 2, 50))
            case 5:
                other = rng.choice(SEEDS)
                begin = rng.randrange(len(other))
                mutated[at:end] = other[begin : begin + end - at]
            case _:
                number = rng.choice((0, 1, 255, 2**16, 2**31 - 1, 2**32 - 1, 2**63 - 1))
                mutated[at : at + 4] = struct.pack("<Q", number)[: rng.choice((1, 4, 8))]
        if not mutated:
            break
    return bytes(mutated)


def _rezipped(rng: random.Random, data: bytes) -> bytes:
    """An archive with a changed pickle, and now and then with members renamed, doubled or left out."""
    members = _members(data)
    members = [(name, _changed(rng, part) if name.endswith("data.pkl") else part) for name, part in members]
    if rng.randrange(8) == 0:
        at = rng.randrange(len(members))
        name, part = members[at]
        renamed = rng.choice((name.upper(), name.replace("data/", "data/1"), f"x/{name}", "archive/data/1", name))
        members[at : at + rng.randrange(2)] = [(renamed, _changed(rng, part) if part else part)]
    return _zipped(members)


def judge(data: bytes, _: str) -> str:
    """How a mutant ended.

    Raises:
        WrongEndError: It was neither refused as it should nor read as torch reads it.
    """
    began = time.perf_counter()
    try:
        file = read_torch(Content(np.frombuffer(data, np.uint8)))
        ours = {name: _read(file, name) for name in file.tensors}
    except VggQuantError as error:
        if len(str(error)) > 2000 or not str(error).isprintable():
            raise WrongEndError(f"a message of several lines: {error!r}") from error
        return "refused"
    except BaseException as error:
        raise WrongEndError(f"{type(error).__name__}: {error}") from error
    finally:
        if time.perf_counter() - began > SLOWEST:
            raise WrongEndError(f"{time.perf_counter() - began:.1f} s")
    theirs = _by_torch(data)
    if theirs is None:
        return "read, though torch refuses it"
    for name, array in ours.items():
        if array is not None and (name not in theirs or not _equal(array, theirs[name])):
            raise WrongEndError(f"{name}: other values than torch reads")
    missing = [name for name, tensor in theirs.items() if name not in ours and type(tensor) is torch.Tensor]
    if missing:
        raise WrongEndError(f"{missing[0]}: left out")
    return "read as torch reads it" if ours else "without tensors"


def _read(file: WeightFile, name: str) -> np.ndarray | None:
    """The elements of a tensor; none if it is larger than its storage, which no shape of a network asks for."""
    tensor = file.tensors[name]
    if int(np.prod(tensor.shape, dtype=object)) > 10**6:
        return None
    try:
        return tensor.read()
    except ValueError:  # `layouts` refuses the file for it
        return None


def _equal(ours: np.ndarray, theirs: torch.Tensor) -> bool:
    wide = theirs.detach().float() if theirs.dtype == torch.bfloat16 else theirs.detach()
    found = wide.numpy()
    return found.shape == ours.shape and found.dtype == ours.dtype and found.tobytes() == ours.tobytes()


def _by_torch(data: bytes) -> dict[str, torch.Tensor] | None:
    """What torch finds, or nothing if it refuses the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except BaseException:  # of any type
        return None
    if not isinstance(state, dict):
        return None
    seen = [state]
    while inner := [value for name in WRAPPERS if isinstance(value := dict.get(state, name), dict)]:
        if any(inner[0] is outer for outer in seen):
            break
        seen.append(state := inner[0])
    return {name: tensor for name, tensor in dict.items(state) if isinstance(tensor, torch.Tensor)}
