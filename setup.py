"""What setup.cfg cannot say: where ``kddense.pth`` goes, and that extras leave the forks of OpenMMLab alone."""

import configparser
import re
import shutil
import sysconfig
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

# What an extra would write over a fork that is there: by itself, or, as mmcv-lite does, by what it requires.
OVER_A_FORK = {
    'mmengine': 'onedl-mmengine',
    'mmcv-lite': 'onedl-mmengine',
    'setuptools': 'onedl-mmengine',  # no more needed
    'mmdet': 'onedl-mmdetection',
    'mmsegmentation': 'onedl-mmsegmentation',
}


class BuildWithPth(build_py):
    """Lays the file beside the packages, where Python reads it as it starts; into an editable installation's wheel too."""

    def run(self) -> None:
        """Build, and copy the file."""
        super().run()
        wheel = self.distribution.get_command_obj('install').install_lib if self.editable_mode else self.build_lib
        shutil.copy('kddense.pth', Path(wheel, 'kddense.pth'))


def extras(installed: Iterable[str]) -> dict[str, list[str]]:
    """Return the extras of setup.cfg, without what would replace a fork.

    Args:
        installed: Names of distributions in the environment that is built for.
    """
    there = {name.lower() for name in installed}
    parser = configparser.ConfigParser()
    parser.read(Path(__file__).with_name('setup.cfg'))
    lists = {
        extra: [line for line in text.splitlines() if line] for extra, text in parser['options.extras_require'].items()
    }
    return {
        extra: [line for line in lines if OVER_A_FORK.get(re.split('[<>=]', line)[0]) not in there]
        for extra, lines in lists.items()
    }


def _installed() -> list[str]:
    """Return what the environment holds whose pip builds this; its folder is known where its packages cannot be imported."""
    return [one.metadata['Name'] for one in metadata.distributions(path=[sysconfig.get_path('purelib')])]


if __name__ == '__main__':
    setup(cmdclass={'build_py': BuildWithPth}, extras_require=extras(_installed()))
