"""``python -m kddense.compat install | uninstall | status``."""

from __future__ import annotations

import argparse
import sys

from . import install, state, uninstall


def main(argv: list[str] | None = None) -> int:
    """Run one command; return the exit status."""
    parser = argparse.ArgumentParser(prog='python -m kddense.compat', description="A stand-in for mmcv's operators.")
    parser.add_argument(
        'command',
        choices=['install', 'uninstall', 'status'],
        help="install puts the stand-in beside mmcv-lite, so that OpenMMLab's own scripts find it in every process",
    )
    command = parser.parse_args(argv).command
    try:
        print({'install': install, 'uninstall': uninstall, 'status': lambda: state().value}[command]())
    except (RuntimeError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
