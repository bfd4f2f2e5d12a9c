"""Classes of the street scenes: names, label ids and train ids are those of Cityscapes."""

from __future__ import annotations

import numpy as np

UNLABELLED, EGO_VEHICLE = 0, 1
ROAD, PAVEMENT = 7, 8
BUILDING, WALL, FENCE = 11, 12, 13
POLE, TRAFFIC_LIGHT, TRAFFIC_SIGN = 17, 19, 20
VEGETATION, TERRAIN, SKY = 21, 22, 23
PERSON, RIDER, CAR, TRUCK, BUS, TRAIN, MOTORCYCLE, BICYCLE = 24, 25, 26, 27, 28, 31, 32, 33

# What is counted one by one; the ids in COCO's files are the label ids, as in mmdet's conversion of Cityscapes.
CATEGORIES = {
    PERSON: 'person',
    RIDER: 'rider',
    CAR: 'car',
    TRUCK: 'truck',
    BUS: 'bus',
    TRAIN: 'train',
    MOTORCYCLE: 'motorcycle',
    BICYCLE: 'bicycle',
}
IGNORED = 255
_IN_TRAINING_ORDER = (
    ROAD, PAVEMENT, BUILDING, WALL, FENCE, POLE, TRAFFIC_LIGHT, TRAFFIC_SIGN, VEGETATION, TERRAIN, SKY,
    PERSON, RIDER, CAR, TRUCK, BUS, TRAIN, MOTORCYCLE, BICYCLE,
)  # fmt: skip
_TRAIN_IDS = np.full(256, IGNORED, np.uint8)
_TRAIN_IDS[list(_IN_TRAINING_ORDER)] = np.arange(len(_IN_TRAINING_ORDER))


def train_ids(label_ids: np.ndarray) -> np.ndarray:
    """Return the train ids, 0 to 18 and 255 for what is not trained on, of label ids; both uint8, of any shape."""
    return _TRAIN_IDS[label_ids]
