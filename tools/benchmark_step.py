"""See :mod:`kddense.apps.benchmark`."""

from kddense.apps.benchmark import main

if __name__ == '__main__':
    main()
