"""The demo; see :mod:`kddense.apps.demo`."""

import warnings

warnings.filterwarnings('ignore', message='pkg_resources')  # mmengine's way to read 'package::path' configs
warnings.filterwarnings('ignore', module=r'mm(cv|det|engine|seg)\b')

if __name__ == '__main__':
    print('starting', flush=True)  # the imports take seconds
    from kddense.apps.demo.command import main

    main()
