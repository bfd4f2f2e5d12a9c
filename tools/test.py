"""See :mod:`kddense.apps.test`."""

import warnings

warnings.filterwarnings('ignore', message='pkg_resources')  # mmengine's way to read 'package::path' configs

from kddense.apps.test import main  # noqa: E402

if __name__ == '__main__':
    main()
