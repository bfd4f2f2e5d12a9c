"""The demo: street scenes, a teacher, a plain student, a distilled student, and a report, in one call.

Every step is what a user would type: ``kddense train`` trains, each model in a process of its own. What is done is not done
again, and what was cut off goes on.
"""

from .demo import Demo
from .tasks import TASKS, Task
from .teller import Teller
from .training import DemoError, Training

__all__ = ['TASKS', 'Demo', 'DemoError', 'Task', 'Teller', 'Training']
