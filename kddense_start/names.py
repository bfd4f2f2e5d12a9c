"""Lets mmengine find ``kddense::path`` in configs, in every process: stock scripts read a config before it imports kddense.

mmengine 0.10 has a fixed list of what may stand before ``::``, by module and distribution, and nothing that a package could
register with. So the file ``kddense.pth``, which Python runs as it starts, calls :func:`watch`; and once mmengine's configs
are imported, :func:`teach` adds what is missing. Nothing is imported for it, and processes without mmengine never notice.
"""

from __future__ import annotations

import sys
from typing import Any

CONFIGS = 'mmengine.config.config'


def watch() -> None:
    """Teach mmengine as soon as it is imported in this process."""
    if not any(isinstance(finder, _Watch) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Watch())


class _Watch:
    """Finds one module, by asking the other finders, and looks at it when it is done."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != CONFIGS:
            return None
        sys.meta_path.remove(self)
        from importlib.util import find_spec

        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_teach(module: Any) -> None:
                execute(module)
                teach(module)

            spec.loader.exec_module = execute_and_teach  # type: ignore[method-assign]
        return spec


def teach(module: Any) -> None:
    """Add kddense to the packages that mmengine reads configs of; a second call does nothing.

    Args:
        module: ``mmengine.config.config``.
    """
    from importlib import import_module
    from importlib.util import find_spec

    names = import_module('mmengine.config.utils').MODULE2PACKAGE
    if 'kddense' in names:
        return
    # mmengine looks for a distribution, whose folder is not the package's if it is an editable installation, and then for
    # a module, in whose folder the package is. So it is given the name of a module alone.
    names['kddense'] = 'kddense.registry'
    if not _is_distribution(names['mmseg']) and find_spec('mmseg'):
        names['mmseg'] = 'mmseg'  # the fork's distribution has another name than the one mmengine looks for
    stock = module.Config._get_cfg_path

    def get_cfg_path(cfg_path: str, filename: str) -> tuple[str, str | None]:
        """As in stock, where a base of kddense is read as one beside the config: its types say or inherit their scope."""
        file, scope = stock(cfg_path, filename)
        return file, None if scope == 'kddense' else scope

    module.Config._get_cfg_path = staticmethod(get_cfg_path)


def _is_distribution(name: str) -> bool:
    from importlib import metadata

    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
