"""The entry point of the `vggquant` script and of `python -m vggquant`: the command line, which may be interrupted.

All else is left to `cli`, which is imported only here, where an interrupt ends in one line already.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType

from vggquant.wording import INTERRUPTED


def main() -> None:
    """Run the command line."""
    try:
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)  # not every system has both
            if number is not None and signal.getsignal(number) == signal.SIG_DFL:
                signal.signal(number, _end)
        from vggquant.cli.app import main as run

        run()
    except KeyboardInterrupt:
        sys.stderr.write(f"{INTERRUPTED}\n")
        sys.exit(130)


def _end(number: int, _: FrameType | None) -> None:
    """End by an exception, so that temporary files are removed, with the exit code that shells have for a signal."""
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
