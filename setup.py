"""What setup.cfg cannot say: ``kddense.pth`` goes beside the packages, where Python reads it as it starts."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithPth(build_py):
    """Lays the file into the wheel, of an editable installation too, whose modules stay where they are."""

    def run(self) -> None:
        """Build, and copy the file."""
        super().run()
        wheel = self.distribution.get_command_obj('install').install_lib if self.editable_mode else self.build_lib
        shutil.copy('kddense.pth', Path(wheel, 'kddense.pth'))


setup(cmdclass={'build_py': BuildWithPth})
