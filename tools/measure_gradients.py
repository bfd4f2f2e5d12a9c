"""How large each distillation term's gradient is beside the task's: see ``--help``."""

import sys

from kddense.apps.measure.gradients import main

if __name__ == '__main__':
    sys.exit(main())
