"""See :mod:`kddense.apps.distill`."""

from kddense.apps.distill import main

if __name__ == '__main__':
    main()
