"""Search for the student that learns best from a given teacher (AKD): widths, depths, resolutions, under a limit of cost.

    kddense search configs/akd/search_akd_camvid.py

tries students with short trainings; poor ones end early. Call it as often as you like, on several machines with a shared
folder or ``--storage``: workers join one study. What was cut off goes on. ``--without-teacher`` searches again for students
that learn alone, for comparison.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from mmengine.logging import MMLogger

from kddense.apps.command_line import ConfigOptions, in_one_sentence, new_parser
from kddense.apps.noise import ignore_known_warnings

from .page import write_results
from .space import read_search
from .study import Worker


@in_one_sentence()
def main(argv: Sequence[str] | None = None) -> int:
    """Search.

    Args:
        argv: The arguments; those of the process by default.

    Returns:
        The exit status: 0 if the study is done.
    """
    parser = new_parser(__doc__)
    parser.add_argument('search', help='a Python config with `config` and `space`: a path, or package::path')
    parser.add_argument('--work-dir', type=Path, help='where everything goes; work_dirs/<search> by default')
    parser.add_argument('--storage', help='a database that workers share, as Optuna takes it')
    parser.add_argument('--without-teacher', action='store_true', help='let students learn alone')
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, default={}, help='changes to the config')
    args = parser.parse_args(argv)
    ignore_known_warnings()
    MMLogger.get_instance('search', log_level='ERROR')
    search = read_search(args.search, args.cfg_options)
    stem = Path(args.search.partition('::')[2] or args.search).stem
    work_dir = (args.work_dir or Path('work_dirs') / stem) / ('alone' if args.without_teacher else 'taught')
    worker = Worker(search, work_dir, args.storage, not args.without_teacher, lambda text: print(text, flush=True))
    try:
        study = worker.work()
    except KeyboardInterrupt:
        sys.exit('\ninterrupted: the same command goes on from here')
    for line in write_results(study, search, work_dir, stem):
        print(line)
    return 0
