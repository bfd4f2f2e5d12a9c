"""See :mod:`kddense.apps.train`."""

from kddense.apps.train import main

if __name__ == '__main__':
    main()
