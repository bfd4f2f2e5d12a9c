"""See :mod:`kddense.apps.test`."""

from kddense.apps.test import main

if __name__ == '__main__':
    main()
