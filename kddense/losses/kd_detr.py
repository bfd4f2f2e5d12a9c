"""KD-DETR (Wang et al., "Detection Transformer with Consistent Distillation Points Sampling", CVPR 2024)."""

from __future__ import annotations

from typing import Literal, NamedTuple

from torch import Tensor, nn

from kddense.losses._checks import check_choice, check_positive, check_same_shape, full_precision
from kddense.losses._query_boxes import overlap_distance
from kddense.losses._softmax_divergence import softmax_divergence
from kddense.registry import MODELS


class QueryDistance(NamedTuple):
    """How far two models are apart in what they say of queries, each a scalar."""

    classes: Tensor
    boxes: Tensor
    overlaps: Tensor


def shared_query_distance(
    student_logits: Tensor,
    student_boxes: Tensor,
    teacher_logits: Tensor,
    teacher_boxes: Tensor,
    weight: Tensor,
    temperature: float = 10.0,
    average: str = 'images',
    divisor: Tensor | float | None = None,
) -> QueryDistance:
    """Distance of two models in what they say of the same queries, one decoder layer of the student.

    ``classes = τ² / N · Σ_q w_q · mean over classes of softmax(t / τ) · log(softmax(t / τ) / softmax(s / τ))``,
    ``boxes = Σ_q w_q · mean over 4 of |b_s - b_t| / Σ_q w_q``, ``overlaps = Σ_q w_q · (1 - GIoU) / Σ_q w_q``.

    From the released code: all of it, but that it does not divide the term of classes by the number of images N of one
    process, ``average='batch'`` here: its strength then grows with the batch. It takes the softmax of logits that the
    heads read by a sigmoid. With ``average='weights'``, the term of classes is a weighted mean as those of boxes.

    Args:
        student_logits: Shape ``(N, Q, K)``, of any floating dtype; computed in float32, or in float64 if an input is.
        student_boxes: Centre and size relative to the image, shape ``(N, Q, 4)``.
        teacher_logits: As the student's. No gradient flows into the teacher's.
        teacher_boxes: As the student's.
        weight: How much each query counts, shape ``(N, Q)``: the teacher's greatest class probability.
        temperature: The paper's T, above 0.
        average: What the sum of classes is divided by, ``'images'``, ``'batch'`` (nothing) or ``'weights'``.
        divisor: What stands for Σ w, of all processes say; the sum over ``weight`` by default.

    Returns:
        Three scalars; zeros that back-propagate if there is no query, or none has a weight.

    Raises:
        ValueError: If shapes do not fit, ``temperature`` is not above 0, or ``average`` is none of the three.

    Example:
        >>> import torch
        >>> teacher, student = torch.tensor([[[2.0, 0.0, -2.0]]]), torch.tensor([[[1.0, 0.0, 0.0]]])
        >>> box = torch.tensor([[[0.5, 0.5, 0.2, 0.2]]])
        >>> shared_query_distance(student, box, teacher, box, torch.ones(1, 1), temperature=2.0).classes
        tensor(0.1725)
    """
    check_same_shape(student_logits=student_logits, teacher_logits=teacher_logits)
    check_same_shape(student_boxes=student_boxes, teacher_boxes=teacher_boxes)
    check_positive('temperature', temperature)
    check_choice('average', average, ('images', 'batch', 'weights'))
    own, other = full_precision(student_logits, teacher_logits.detach())
    boxes, targets, weight = full_precision(student_boxes, teacher_boxes.detach(), weight.detach())
    divisor = weight.sum() if divisor is None else divisor
    total = divisor + (divisor == 0)  # with no weight at all the sums are 0 too
    of_classes = softmax_divergence(own / temperature, other / temperature, -1, student_first=False)
    classes = temperature**2 * (weight * of_classes).sum() / max(own.shape[-1], 1)
    by = {'images': max(len(own), 1), 'batch': 1, 'weights': total}[average]
    return QueryDistance(
        classes / by,
        (weight * (boxes - targets).abs().mean(-1)).sum() / total,
        (weight * overlap_distance(boxes, targets)).sum() / total,
    )


@MODELS.register_module()
class SharedQueryLoss(nn.Module):
    """:func:`shared_query_distance`.

    Args:
        temperature: The paper's T, above 0.
        average: What the sum of classes is divided by: ``'images'``, ``'batch'`` for nothing, as the released code has it,
            or ``'weights'``.
    """

    def __init__(self, temperature: float = 10.0, average: Literal['images', 'batch', 'weights'] = 'images') -> None:
        super().__init__()
        check_positive('temperature', temperature)
        check_choice('average', average, ('images', 'batch', 'weights'))
        self.temperature = temperature
        self.average = average

    def forward(
        self,
        student_logits: Tensor,
        student_boxes: Tensor,
        teacher_logits: Tensor,
        teacher_boxes: Tensor,
        weight: Tensor,
        divisor: Tensor | float | None = None,
    ) -> QueryDistance:
        """Return three scalars: of classes, boxes and overlaps."""
        return shared_query_distance(
            student_logits,
            student_boxes,
            teacher_logits,
            teacher_boxes,
            weight,
            self.temperature,
            self.average,
            divisor,
        )

    def extra_repr(self) -> str:
        return f'temperature={self.temperature}, average={self.average!r}'
