"""Whether a method helps: see ``kddense measure --help``."""

import sys

from kddense.apps.measure import main

if __name__ == '__main__':
    sys.exit(main())
