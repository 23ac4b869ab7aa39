"""Borders that reflect a picture, and their gradient."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import pad

from vggquant.models.borders import _Reflected, reflected

FORMATS = [torch.contiguous_format, torch.channels_last]


@pytest.mark.parametrize("format_", FORMATS, ids=["contiguous", "channels last"])
@pytest.mark.parametrize("size", [(2, 2), (3, 2), (5, 4), (7, 9)])
def test_the_function_for_gpus_is_torchs_own_with_its_gradient(
    size: tuple[int, int], format_: torch.memory_format
) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, *size, dtype=torch.float64).contiguous(memory_format=format_).requires_grad_()
    weight = torch.randn(2, 3, size[0] + 2, size[1] + 2, dtype=torch.float64)
    found, expected = _Reflected.apply(x), pad(x, (1, 1, 1, 1), mode="reflect")  # type: ignore[no-untyped-call]
    assert torch.equal(found, expected)
    assert found.is_contiguous(memory_format=format_)
    gradients = [torch.autograd.grad((y * weight).sum(), x)[0] for y in (found, expected)]
    assert torch.allclose(gradients[0], gradients[1], atol=1e-12)
    assert torch.autograd.gradcheck(_Reflected.apply, x)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (5, 1)])
def test_where_there_is_no_other_pixel_the_last_is_repeated(size: tuple[int, int]) -> None:
    x = torch.rand(1, 2, *size)
    assert torch.equal(reflected(x), pad(x, (1, 1, 1, 1), mode="replicate"))
