"""See :mod:`kddense.apps.train`."""

import warnings

warnings.filterwarnings('ignore', message='pkg_resources')  # mmengine's way to read 'package::path' configs

from kddense.apps.train import main  # noqa: E402

if __name__ == '__main__':
    main()
