"""Shows progress as a bar on a terminal; what there is to report is left to the work itself."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator
from typing import Any

import click

from vggquant.errors import printable
from vggquant.progress import Progress, ProgressCallback

BAR = 5  # columns; a short bar leaves room for the text beside it
LEAST_TEXT = 10  # columns, however narrow the terminal


@contextlib.contextmanager
def progress_bar(label: str) -> Iterator[ProgressCallback | None]:
    """Give a callback that draws a bar on stderr, or ``None`` if stderr is no terminal.

    Args:
        label: What is being done, for instance ``packing``.
    """
    if not sys.stderr.isatty():
        yield None
        return
    with contextlib.ExitStack() as stack:
        yield _Bar(label, stack).show


class _Bar:
    """A bar that appears with the first report, which is when the number of steps is known."""

    def __init__(self, label: str, stack: contextlib.ExitStack) -> None:
        self.label = label
        self.stack = stack  # closes the bar, if there ever was one
        self.bar: Any = None
        self.done_before = 0  # a resumed transfer does not begin at step 0

    def show(self, progress: Progress) -> None:
        """Draw the bar as one report has it."""
        if self.bar is None:
            self.bar = self._open(progress)
            self.done_before = progress.done - 1
        self.bar.update(progress.done - self.bar.pos, printable(self._text(progress), self._room(progress)))

    def _open(self, progress: Progress) -> Any:
        bar = click.progressbar(
            length=progress.total,
            label=self.label,
            file=sys.stderr,
            width=BAR,
            show_pos=True,
            show_eta=progress.left is None,  # click's estimate supposes that all steps take as long
            item_show_func=lambda text: text or "",
        )
        return self.stack.enter_context(bar)

    def _text(self, progress: Progress) -> str:
        """Time left, steps per second, what the last step was about, and its figures but for their sum, the loss."""
        left = "" if progress.left is None else f"{progress.left // 60:.0f}:{progress.left % 60:02.0f}"
        rate = f"{(progress.done - self.done_before) / max(progress.elapsed, 1e-3):.3g}/s"
        values = " ".join(f"{name} {value:.3g}" for name, value in progress.values.items() if name != "loss")
        return " ".join(filter(None, (left, rate, progress.detail, values)))

    def _room(self, progress: Progress) -> int:
        """Columns left beside the label, the bar and the count of steps."""
        count = 2 * len(str(progress.total))
        room = shutil.get_terminal_size().columns - len(self.label) - count - BAR - 10
        return max(room, LEAST_TEXT)
