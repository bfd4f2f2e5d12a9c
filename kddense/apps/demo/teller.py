"""Progress of the demo, printed."""

from __future__ import annotations

import math
import shutil
import sys
import time


class Teller:
    """Prints progress: on a terminal a line that is overwritten, elsewhere a line now and then.

    Args:
        every: Seconds between two lines where they cannot be renewed.
    """

    def __init__(self, every: float = 15.0) -> None:
        self.every = every
        self._said = -math.inf
        self._width = 0

    def done(self, text: str) -> None:
        """Print a line that stays."""
        print(f'\r{text:<{self._width}}' if self._width else text, flush=True)
        self._width, self._said = 0, -math.inf

    def progress(self, text: str) -> None:
        """Print a line that the next one replaces."""
        if sys.stdout.isatty():
            text = text[: shutil.get_terminal_size().columns - 1]  # a line that wraps cannot be renewed
            print(f'\r{text:<{self._width}}', end='', flush=True)
            self._width = len(text)
        elif time.monotonic() - self._said >= self.every:
            print(text, flush=True)
            self._said = time.monotonic()
