"""Images that a training sees and a measurement is taken on."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def image_files(dataset: Any) -> set[Path]:
    """Return the files of a data set's images; none if it does not tell them."""
    try:
        if hasattr(dataset, 'full_init'):
            dataset.full_init()
        found = [dataset.get_data_info(index).get('img_path') for index in range(len(dataset))]
    except AttributeError:
        return set()
    return {Path(file).resolve() for file in found if file}


def tell_held_out(images: Any, measured_on: Any, name: str) -> str:
    """Return a sentence if images without labels are among those that a student is measured on; else the empty text.

    Args:
        images: The data set of the images without labels.
        measured_on: That of a validation or a test.
        name: What the latter is, ``'validation'`` or ``'test'``.
    """
    shared = len(image_files(images) & image_files(measured_on))
    if not shared:
        return ''
    return (
        f'{shared} of the images without labels are {name} images: the student sees them in training, so what is measured '
        'on them says less about images that it never saw'
    )
