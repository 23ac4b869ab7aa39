"""What long work reports through; how it is shown is left to the caller."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Progress:
    """One report.

    Args:
        task: What is being done, for instance ``"pack"``.
        done: Steps finished.
        total: Steps in all.
        elapsed: Seconds since the start.
        detail: What the last step was about, for instance a layer and its width.
        values: Figures of the last step by name, for instance loss terms.
        left: Seconds that the rest will take, where that is not in proportion to the steps.
    """

    task: str
    done: int
    total: int
    elapsed: float
    detail: str = ""
    values: Mapping[str, float] = field(default_factory=dict)
    left: float | None = None


ProgressCallback = Callable[[Progress], None]
