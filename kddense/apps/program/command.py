"""Run a programme: trainings of which some learn from others, each a link of a short Python config.

    kddense program configs/takd/program_takd_camvid.py

trains and tests every link in its own work_dir, and writes one page about all of them. What is done is not repeated, what
was cut off goes on, and a link that was changed runs again, with all that hangs on it. ``--dry-run`` prints the plan,
``--report-only`` reports what is done so far, ``--links`` runs a part.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmengine.logging import MMLogger

from kddense.apps.command_line import check_json, count, in_one_sentence, new_parser
from kddense.apps.measure.markdown import markdown
from kddense.apps.measure.recorded import read_table
from kddense.errors import ConfigError
from kddense.training.checkpoints import find_checkpoint

from .links import Programme, part_of, read_programme
from .report import lines_of, table_of, write_page
from .run import FailedError, run
from .versions import Version, versions_of


@in_one_sentence()
def main(argv: Sequence[str] | None = None) -> int:
    """Run a programme.

    Args:
        argv: The arguments; those of the process by default.

    Returns:
        The exit status: 0 if all links are done.
    """
    parser = new_parser(__doc__)
    parser.add_argument('programme', help='a Python config with `links`: a path, or package::path')
    parser.add_argument('--work-dir', type=Path, help='where everything goes; work_dirs/<programme> by default')
    parser.add_argument(
        '--links', nargs='+', help='run these alone, links or all seeds of one, and what they learn from'
    )
    parser.add_argument('--jobs', type=count, default=1, help='how many links may run side by side')
    parser.add_argument('--dry-run', action='store_true', help='print what would be run, and why')
    parser.add_argument('--report-only', action='store_true', help='run nothing, report the links that are done')
    parser.add_argument('--json', type=Path, help='record the table of the compared links in this file')
    args = parser.parse_args(argv)
    MMLogger.get_instance('program', log_level='ERROR')
    programme = read_programme(args.programme)
    if args.json and not programme.plain:
        raise ConfigError(f": '{args.programme}' names no `plain`, so nothing is compared", '--json')
    check_json(args.json)
    if args.json and args.json.exists():
        read_table(args.json)  # before what takes long: another file is not written over
    work_dir = args.work_dir or Path('work_dirs') / programme.name
    versions = versions_of(programme, work_dir)
    part = {name: versions[name] for name in part_of(programme, args.links)} if args.links else versions
    if args.dry_run:
        for version in part.values():
            print(_planned(version))
        return 0
    if args.report_only:
        _report(args, programme, versions, work_dir)
        return 0 if all(one.is_done for one in part.values()) else 1
    try:
        run(part, args.jobs, lambda text: print(text, flush=True))
    except FailedError as error:
        write_page(programme.name, versions, work_dir)
        sys.exit(f'error: {error}')
    except KeyboardInterrupt:
        sys.exit('\ninterrupted: the same command goes on from here')
    _report(args, programme, versions, work_dir)
    return 0


def _report(args: argparse.Namespace, programme: Programme, versions: Mapping[str, Version], work_dir: Path) -> None:
    """Write the page of the links that are done, print them and their table, and record it if asked."""
    page = write_page(programme.name, versions, work_dir)
    for line in lines_of(versions):
        print(line)
    if programme.plain:
        table = table_of(programme, versions, f'kddense program {args.programme}')
        print('\n'.join(['', markdown(table.contents), *table.faults]))
        if args.json and table.contents['plain']:
            table.write_over(args.json)
    print(f'the report is {page}')


def _planned(version: Version) -> str:
    link = version.link
    from_whom = f' learns from {", ".join(link.needs)},' if link.needs else ''
    others = [one for one in version.folder.parent.glob('*') if one != version.folder and one.is_dir()]
    if version.is_done:
        state = 'is done'
    elif (last := find_checkpoint(version.folder)) is not None:
        state = f'goes on from {last.name}'
    elif others:
        state = 'was changed, or what it learns from: runs again'
    else:
        state = 'runs'
    return f'{link.name}:{from_whom} {state}, {link.config} in {version.folder}'
