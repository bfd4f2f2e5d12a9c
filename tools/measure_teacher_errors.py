"""See :mod:`kddense.apps.teacher_errors`."""

from kddense.apps.teacher_errors import main

if __name__ == '__main__':
    main()
