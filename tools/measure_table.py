"""See :mod:`kddense.apps.table`."""

from kddense.apps.table import main

if __name__ == '__main__':
    main()
