"""Images without labels that are to stand beside those with labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope

from kddense.datasets import UnlabelledImages
from kddense.datasets.held_out import tell_held_out

from .choice import DETR, MASK_QUERIES
from .models import Looked

MEASURED_ON = {'validation': 'val_dataloader', 'test': 'test_dataloader'}


def look_at_unlabelled(unlabelled: Sequence[str], student: Looked, say: Callable[[str], None]) -> None:
    """Tell how many images without labels there are, and which of them the student is measured on.

    Args:
        unlabelled: Folders, patterns, lists, videos and COCO files; may be empty.
        student: Beside whose images they are to stand.
        say: Told what was found.

    Raises:
        ValueError: If the student cannot have any beside labelled ones, or a file is none of images.
        FileNotFoundError: If one of ``unlabelled`` names none.
    """
    if not unlabelled:
        return
    if student.family in (DETR, MASK_QUERIES):
        raise ValueError(
            f'--unlabelled: a {student.family} takes no images without labels beside labelled ones; segmentors, depth '
            'estimators and detectors with RoI or dense heads do'
        )
    try:
        images = UnlabelledImages(list(unlabelled))
    except (ValueError, OSError) as error:
        raise type(error)(f'--unlabelled: {error}') from None
    say(f'images without labels: {len(images)}, in each batch as many as with labels')
    for name, loader in MEASURED_ON.items():
        if told := _held_out(images, student.config, loader, name):
            say(f'warning: {told}')


def _held_out(images: UnlabelledImages, config: Config, loader: str, name: str) -> str:
    """Return what is to be told of images that the student is measured on; nothing if these are not there."""
    dataset = (config.get(loader) or {}).get('dataset')
    if not dataset:
        return ''
    with (
        suppress(OSError),
        DefaultScope.overwrite_default_scope(config.get('default_scope')),
    ):  # test images may be absent
        return tell_held_out(images, DATASETS.build(dataset), name)
    return ''
