"""How mkdocstrings reads kddense's docstrings: references in the words of Sphinx, and ``Example:`` for one example."""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r':(?:attr|class|func|meth|mod):`([\w.]+)`')
CODE = re.compile(r'``(.+?)``')


class Docstrings(griffe.Extension):
    """Turns what docstrings refer to into links, where the site has the place."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is None:
            return
        text = re.sub(r'^( *)Example:$', r'\1Examples:', obj.docstring.value, flags=re.MULTILINE)
        obj.docstring.value = ROLE.sub(lambda found: _link(obj, found[1]), text)


def _link(obj: griffe.Object, name: str) -> str:
    """Return a link that stays plain text where nothing of this name is on the site."""
    try:
        path = obj.resolve(name)
    except griffe.NameResolutionError:
        path = name
    return f'<autoref optional identifier="{path}">`{name}`</autoref>'
