"""Images without labels that are to stand beside those with labels."""

from __future__ import annotations

from collections.abc import Sequence

from kddense.datasets import UnlabelledImages

from .choice import DETR, MASK_QUERIES


def count_images(unlabelled: Sequence[str], family: str | None) -> int:
    """Return how many images without labels there are.

    Args:
        unlabelled: Folders, patterns, lists, videos and COCO files.
        family: The student's.

    Raises:
        ValueError: If the student cannot have any beside labelled ones, or a file is none of images.
        FileNotFoundError: If one of ``unlabelled`` names none.
    """
    if family in (DETR, MASK_QUERIES):
        raise ValueError(
            f'--unlabelled: a {family} takes no images without labels beside labelled ones; segmentors, depth estimators '
            'and detectors with RoI or dense heads do'
        )
    try:
        return len(UnlabelledImages(list(unlabelled)))
    except (ValueError, OSError) as error:
        raise type(error)(f'--unlabelled: {error}') from None
