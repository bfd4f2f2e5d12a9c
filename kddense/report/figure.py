"""Pictures and drawings as a page embeds them."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Figure:
    """A picture with its caption.

    Attributes:
        caption: What stands under it.
        source: The picture itself, as a ``data:`` address.
    """

    caption: str
    source: str


def picture_source(picture: np.ndarray) -> str:
    """Return a picture ``(H, W, 3)``, RGB, as a page embeds it."""
    done, data = cv2.imencode('.jpg', cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])
    assert done
    return f'data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}'


def svg_source(svg: str) -> str:
    """Return a drawing as a page embeds it."""
    return f'data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}'
