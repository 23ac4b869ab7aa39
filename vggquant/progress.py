"""The reports that long-running work makes about its progress; showing them is left to the caller."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Progress:
    """One report about work in progress.

    Args:
        task: What is being done, for instance ``"pack"``.
        done: Number of steps finished.
        total: Number of steps in all.
        elapsed: Seconds since the start.
        detail: What the last step dealt with, for instance a layer and its width.
        values: Named results of the last step, for instance the terms of a loss.
        left: Seconds that the rest will take; ``None`` as long as the work cannot tell.
        even: Whether all steps take about as long, so that anybody can estimate that from the steps done.
    """

    task: str
    done: int
    total: int
    elapsed: float
    detail: str = ""
    values: Mapping[str, float] = field(default_factory=dict)
    left: float | None = None
    even: bool = True


ProgressCallback = Callable[[Progress], None]
