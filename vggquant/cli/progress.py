"""Shows progress, as a bar on a terminal and else in plain lines; what there is to report is left to the work."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator
from typing import Any

import click

from vggquant.cli.output import echo
from vggquant.errors import printable
from vggquant.progress import Progress, ProgressCallback

BAR = 5  # columns; a short bar leaves room for the text beside it
LEAST_TEXT = 10  # columns, however narrow the terminal
# where there is no terminal
LINES = 20  # that are printed of one piece of work, about
SHORT = 10  # seconds from line to line, at least; of work that takes less, none is printed
LONG = 300  # seconds from line to line, at most; some machines give up what is silent for longer


@contextlib.contextmanager
def progress_bar(label: str, *, quiet: bool = False) -> Iterator[ProgressCallback | None]:
    """Give a callback that draws a bar on stderr, or prints lines now and then if stderr is no terminal.

    Args:
        label: What is being done, for instance ``packing``.
        quiet: Whether to show nothing: then there is no callback.
    """
    if quiet or not sys.stderr.isatty():
        yield None if quiet else _Lines(label).show
        return
    with contextlib.ExitStack() as stack:
        yield _Bar(label, stack).show


class _Lines:
    """Lines for a log: how long the work will take, as soon as it can tell, and now and then how far it is."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.task = ""

    def show(self, progress: Progress) -> None:
        """Print a line, if one is due."""
        elapsed, left = progress.elapsed, progress.left
        if progress.task != self.task:
            self.task = progress.task
            self.due: float = SHORT  # when the next line is
            self.announced = False
        if left is not None and not self.announced:
            if elapsed < 1 or elapsed + left < SHORT:
                return
            self.announced = True
            more = progress.total - progress.done
            line = f"{_counted(more, 'more step')} take{'s' * (more == 1)} about {_duration(left)}"
        elif elapsed < self.due or progress.done == progress.total:
            return
        else:
            time = "" if left is None else f"about {_duration(left)} left"
            parts = (f"{progress.done} of {progress.total}", time, progress.detail, _figures(progress))
            line = ", ".join(filter(None, parts))
        echo(f"{self.label}: {line}", err=True)
        self.due = elapsed + min(max((elapsed + (left or 0)) / LINES, SHORT), LONG)


class _Bar:
    """A bar that appears with the first report of each task, which is when the number of its steps is known."""

    def __init__(self, label: str, stack: contextlib.ExitStack) -> None:
        self.label = label
        self.stack = stack  # closes the bar, if there ever was one
        self.task = ""
        self.bar: Any = None
        self.done_before = 0  # a resumed transfer does not begin at step 0

    def show(self, progress: Progress) -> None:
        """Draw the bar as one report has it."""
        if progress.task != self.task:
            self.stack.close()
            self.bar = self._open(progress)
            self.done_before = progress.done - 1
            self.task = progress.task  # last, because Ctrl-C may come between, and reports from other threads after it
        self.bar.update(progress.done - self.bar.pos, printable(self._text(progress), self._room(progress)))

    def _open(self, progress: Progress) -> Any:
        bar = click.progressbar(
            length=progress.total,
            label=self.label,
            file=sys.stderr,
            width=BAR,
            show_pos=True,
            show_eta=progress.even,  # click's own estimate
            item_show_func=lambda text: text or "",
        )
        self.stack.push(bar)  # before it is drawn, so that an interrupted one gives the cursor back
        return bar.__enter__()

    def _text(self, progress: Progress) -> str:
        """Time left, steps per second, what the last step was about, and its figures."""
        left = "" if progress.left is None else f"{progress.left // 60:.0f}:{progress.left % 60:02.0f}"
        rate = f"{(progress.done - self.done_before) / max(progress.elapsed, 1e-3):.3g}/s"
        return " ".join(filter(None, (left, rate, progress.detail, _figures(progress))))

    def _room(self, progress: Progress) -> int:
        """Columns left beside the label, the bar and the count of steps."""
        count = 2 * len(str(progress.total))
        room = shutil.get_terminal_size().columns - len(self.label) - count - BAR - 10
        return max(room, LEAST_TEXT)


def _figures(progress: Progress) -> str:
    """The figures of the last step but for their sum, the loss."""
    return " ".join(f"{name} {value:.3g}" for name, value in progress.values.items() if name != "loss")


def _duration(seconds: float) -> str:
    """Roughly how long, in words."""
    for unit, length in (("hour", 3600), ("minute", 60), ("second", 1)):
        number = seconds / length
        if number >= 1.95 or unit == "second":
            break
    return _counted(f"{number:.1f}".removesuffix(".0") if unit == "hour" else f"{number:.0f}", unit)


def _counted(count: object, noun: str) -> str:
    return f"{count} {noun}" + ("" if str(count) == "1" else "s")
