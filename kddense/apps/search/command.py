"""Search for the student that learns best from a given teacher (AKD): widths, depths, resolutions, under a limit of cost.

    kddense search configs/akd/search_akd_camvid.py

tries students with short trainings; poor ones end early. Call it as often as you like, on several machines with a shared
folder or ``--storage``: workers join one study. What was cut off goes on. ``--without-teacher`` searches again for students
that learn alone, for comparison.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.logging import MMLogger

from kddense.apps.command_line import in_one_sentence, new_parser
from kddense.files import write_whole

from .space import LIMITS, Search, config_of, read_search
from .study import Worker, front

FRONT = 'front.json'
BEST = 'best.py'


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
    args = parser.parse_args(argv)
    MMLogger.get_instance('search', log_level='ERROR')
    search = read_search(args.search)
    stem = Path(args.search.partition('::')[2] or args.search).stem
    work_dir = (args.work_dir or Path('work_dirs') / stem) / ('alone' if args.without_teacher else 'taught')
    worker = Worker(search, work_dir, args.storage, not args.without_teacher, lambda text: print(text, flush=True))
    study = worker.work()
    for line in write_results(study, search, work_dir, not args.without_teacher):
        print(line)
    return 0


def write_results(study: Any, search: Search, work_dir: Path, with_teacher: bool) -> list[str]:
    """Write the Pareto front and the best config; returns lines about them."""
    done = {one.number: one for one in study.get_trials(deepcopy=False) if one.state.name == 'COMPLETE'}
    if not done:
        return ['no student within the limit came to its end']
    cost = next(iter(search.limit)) if search.limit else LIMITS[0]
    points = {str(number): (one.user_attrs['costs'][cost], float(one.value)) for number, one in done.items()}
    chosen = front(points)
    rows = [
        dict(
            trial=int(name), choice=done[int(name)].params, value=points[name][1], **done[int(name)].user_attrs['costs']
        )
        for name in chosen
    ]
    write_whole(work_dir / FRONT, (json.dumps(rows, indent=2) + '\n').encode())
    best = study.best_trial
    config = config_of(search, best.params, with_teacher, short=False)
    write_whole(work_dir / BEST, config.pretty_text.encode())
    lines = [f'the front by {cost}:']
    lines += [f'  {one["value"]:.3f} at {one[cost]:.2f}: {one["choice"]}' for one in rows]
    return [*lines, f'the best student is {work_dir / BEST}, to be trained in full']
