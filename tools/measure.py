"""Whether a method helps: see :mod:`kddense.apps.measure.main`."""

import sys

from kddense.apps.measure import main

if __name__ == '__main__':
    sys.exit(main())
