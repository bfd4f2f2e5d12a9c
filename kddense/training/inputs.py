"""What a config hangs on beside its own text: the files that it names."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from kddense.configs import read_config
from kddense.files import file_digest

CONFIGS = ('config', 'peer')  # keys under which a config names others


def inputs_in(node: Any, key: str = '') -> Iterator[tuple[str, str]]:
    """Yield the files that a config names, each with a digest of what is in it: checkpoints, annotations, configs."""
    if isinstance(node, Mapping) and node.get('data_root') and isinstance(node.get('ann_file'), str):
        yield from inputs_in(str(Path(node['data_root'], node['ann_file'])))
    if isinstance(node, (Mapping, list, tuple)):
        for name, value in node.items() if isinstance(node, Mapping) else enumerate(node):
            yield from inputs_in(value, str(name) if isinstance(node, Mapping) else key)
    elif key in CONFIGS and isinstance(node, str) and node.endswith('.py') and '{' not in node:
        text = Config(dict(read_config(node, key))).pretty_text
        yield node, hashlib.sha256(text.encode()).hexdigest()
    elif isinstance(node, str) and 0 < len(node) < 1000 and '\n' not in node and Path(node).is_file():
        yield node, file_digest(Path(node))
