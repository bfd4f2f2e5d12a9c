"""See :mod:`kddense.apps.street_scenes.command`."""

from kddense.apps.street_scenes.command import main

if __name__ == '__main__':
    main()
