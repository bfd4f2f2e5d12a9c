"""mmseg's IoU, and each image's share of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from mmseg.evaluation.metrics import IoUMetric

from kddense.registry import METRICS


@METRICS.register_module()
class ImageIoUMetric(IoUMetric):
    """mmseg's ``IoUMetric``, which also writes every image's areas, so that a bootstrap can draw images again.

    Args:
        file: Where to write: ``intersect`` and ``union`` in pixels, float32, shape ``(images, classes)``, in the order of
            the test.
        **kwargs: See mmseg's.
    """

    def __init__(self, file: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.file = Path(file)

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Write the file, and return mmseg's metrics."""
        intersect, union = (np.stack([np.asarray(image[index]) for image in results]) for index in (0, 1))
        self.file.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(self.file, intersect=intersect.astype(np.float32), union=union.astype(np.float32))
        return super().compute_metrics(results)
