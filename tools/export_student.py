"""See :mod:`kddense.apps.export`."""

from kddense.apps.export import main

if __name__ == '__main__':
    main()
