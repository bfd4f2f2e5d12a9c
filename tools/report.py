"""See :mod:`kddense.apps.report`."""

from kddense.apps.report import main

if __name__ == '__main__':
    main()
