"""``python -m kddense``: the same as the command ``kddense``."""

import sys

from kddense_start.command import main

if __name__ == '__main__':
    sys.exit(main())
