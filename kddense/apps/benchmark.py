"""What distillation costs: the plain student's step, the teacher's forward, and the whole step, timed side by side."""

from __future__ import annotations

import copy
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData, PixelData
from torch import Tensor, nn

from kddense.configs import read_config, without_pretrained
from kddense.distiller import Distiller
from kddense.exchange import Answer, Batch, Question
from kddense.models import DepthHead
from kddense.registry import MODELS
from kddense.taps import Taps, map_tensors
from kddense.teachers import FrozenTeacher


@dataclass(frozen=True)
class Costs:
    """Medians over the rounds, in milliseconds.

    Attributes:
        student: The plain student's step: forward, backward, optimiser.
        teacher: One plain float32 forward of the parts that the objectives listen to, in PyTorch's usual memory format.
        step: The whole distillation step.
        ratio: ``step / (student + teacher)``, the median of the rounds' ratios: 1 is a toolkit that costs nothing.
        objectives: Forward and backward of each objective alone.
        peak_memory: Most memory that the device held during one whole step (CUDA; the reference teacher's weights
            counted in), or that the process ever held (CPU), in MiB.
        rounds: How many rounds were timed.
    """

    student: float
    teacher: float
    step: float
    ratio: float
    objectives: dict[str, float]
    peak_memory: float
    rounds: int

    def as_dict(self) -> dict[str, Any]:
        """Return the costs for JSON."""
        return asdict(self)


def measure(
    config: Config, shape: tuple[int, int, int], device: str = 'cpu', rounds: int = 10, warmup: int = 2
) -> Costs:
    """Time the steps of a distillation config on made-up images, interleaved, in one process.

    Args:
        config: A training config whose model is a :class:`kddense.Distiller` with one teacher. Weights do not matter
            here: no checkpoint is loaded.
        shape: Images in a batch, height, width.
        device: ``'cpu'``, ``'cuda'``, …
        rounds: Each times every piece once.
        warmup: Rounds that are run and not counted.
    """
    init_default_scope(config.get('default_scope', 'mmengine'))
    distiller = _build(config.model, device)
    reference = _reference_teacher(config.model, device)
    batch = made_up_batch(distiller.student, shape, device)
    optimizers = _optimizers(distiller)
    seen, taught, question = _one_exchange(distiller, batch)
    seen = _detached(seen)
    given = Batch(batch['inputs'], batch['data_samples'], distiller.image_format)
    look = reference.images.of(given)[0].to(reference.view.image_dtype())

    pieces: dict[str, Callable[[], object]] = {
        'student': lambda: _step(distiller.student, batch, optimizers),
        'teacher': lambda: _plain_forward(reference, question, look),
        'step': lambda: _step(distiller, batch, optimizers),
    }
    for name, objective in distiller.objectives.items():
        pieces[f'objective {name}'] = partial(_objective_alone, objective, seen, taught)
    times: dict[str, list[float]] = {name: [] for name in pieces}
    for index in range(warmup + rounds):
        for name, piece in pieces.items():
            seconds = timed(piece, device)
            if index >= warmup:
                times[name].append(seconds * 1000)
    ratios = [
        step / (student + teacher)
        for student, teacher, step in zip(times['student'], times['teacher'], times['step'], strict=True)
    ]
    medians = {name: statistics.median(values) for name, values in times.items()}
    return Costs(
        student=medians['student'],
        teacher=medians['teacher'],
        step=medians['step'],
        ratio=statistics.median(ratios),
        objectives={name: medians[f'objective {name}'] for name in distiller.objectives},
        peak_memory=_peak_memory(pieces['step'], device),
        rounds=rounds,
    )


def made_up_batch(student: nn.Module, shape: tuple[int, int, int], device: str) -> dict[str, Any]:
    """Return inputs and data samples for a detector (10 boxes an image), segmentor or depth estimator, always the same."""
    number, height, width = shape
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(number, 3, height, width, generator=generator).to(device)
    make = _detection_sample if hasattr(student, 'bbox_head') or hasattr(student, 'roi_head') else _pixel_sample
    samples = [make(student, height, width, generator, device) for _ in range(number)]
    return {'inputs': inputs, 'data_samples': samples}


def _detection_sample(student: Any, height: int, width: int, generator: torch.Generator, device: str) -> Any:
    from mmdet.structures import DetDataSample

    corners = torch.rand(10, 2, generator=generator) * torch.tensor([width * 0.7, height * 0.7])
    sizes = torch.rand(10, 2, generator=generator) * torch.tensor([width * 0.25, height * 0.25]) + 8
    labels = torch.randint(0, _num_classes(student), (10,), generator=generator)
    meta = {'img_shape': (height, width), 'ori_shape': (height, width), 'pad_shape': (height, width)}
    sample = DetDataSample(metainfo={**meta, 'batch_input_shape': (height, width), 'scale_factor': (1.0, 1.0)})
    sample.gt_instances = InstanceData(
        bboxes=torch.cat([corners, corners + sizes], 1).to(device), labels=labels.to(device)
    )
    sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4, device=device))
    return sample


def _pixel_sample(student: Any, height: int, width: int, generator: torch.Generator, device: str) -> Any:
    from mmseg.structures import SegDataSample

    sample = SegDataSample(metainfo={'img_shape': (height, width), 'ori_shape': (height, width)})
    if isinstance(student.decode_head, DepthHead):
        near, far = student.decode_head.min_depth, student.decode_head.max_depth
        depth = near + (far - near) * torch.rand(1, height, width, generator=generator)
        sample.gt_depth_map = PixelData(data=depth.to(device))
        return sample
    labels = torch.randint(0, student.num_classes, (1, height, width), generator=generator)
    sample.gt_sem_seg = PixelData(data=labels.to(device))
    return sample


def _num_classes(student: Any) -> int:
    head = student.roi_head.bbox_head if hasattr(student, 'roi_head') else student.bbox_head
    first: Any = head[0] if isinstance(head, nn.ModuleList) else head
    return first.num_classes


def _build(model: dict[str, Any], device: str) -> Distiller:
    model = copy.deepcopy(model)
    model['teacher'] = _untrained(model['teacher'])
    return revert_sync_batchnorm(MODELS.build(model)).to(device).train()


def _reference_teacher(model: dict[str, Any], device: str) -> FrozenTeacher:
    config = {**_untrained(model['teacher']), 'precision': 'fp32', 'channels_last': False}
    return FrozenTeacher(**config).to(device)


def _untrained(teacher: dict[str, Any]) -> dict[str, Any]:
    return {**teacher, 'config': without_pretrained(read_config(teacher['config'], 'teacher')), 'checkpoint': None}


def _one_exchange(distiller: Distiller, batch: dict[str, Any]) -> tuple[Answer, Answer, Question]:
    """Run one step and keep what passes between the models."""
    (teacher,) = distiller.teachers.values()
    objective = next(iter(distiller.objectives.values()))
    with Taps(teacher, ['answer()']) as asked, Taps(objective, ['forward()']) as heard:
        distiller(**batch, mode='loss')
    exchange = heard['forward()'].arguments
    return exchange['seen'], exchange['taught'], asked['answer()'].arguments['question']


def _optimizers(distiller: Distiller) -> list[torch.optim.Optimizer]:
    """Return the student's optimiser, and one for each objective that trains an adversary."""
    adversaries = [
        objective for objective in distiller.objectives.values() if getattr(objective, 'trains_adversary', False)
    ]
    theirs = {id(parameter) for objective in adversaries for parameter in objective.parameters()}
    rest = [parameter for parameter in distiller.parameters() if id(parameter) not in theirs]
    return [
        torch.optim.SGD(rest, lr=1e-4, momentum=0.9),
        *(torch.optim.Adam(objective.parameters(), lr=1e-4) for objective in adversaries),
    ]


def _step(model: Any, batch: dict[str, Any], optimizers: list[torch.optim.Optimizer]) -> None:
    for optimizer in optimizers:
        optimizer.zero_grad()
    losses = model(**batch, mode='loss')
    loss, _ = model.parse_losses(losses)
    loss.backward()
    for optimizer in optimizers:
        optimizer.step()


@torch.no_grad()
def _plain_forward(teacher: FrozenTeacher, question: Question, images: Tensor) -> None:
    teacher.view.run(question, images)


def _objective_alone(objective: nn.Module, seen: Answer, taught: Answer) -> None:
    objective.zero_grad()
    losses = [value for key, value in objective(_detached(seen), taught).items() if 'loss' in key]
    sum(losses[1:], losses[0]).backward()


def _detached(seen: Answer) -> Answer:
    """Cut what a student showed off the student, so that its activations are not kept."""
    opinions = {
        kind: [replace(opinion, **map_tensors(_leaf, vars(opinion))) for opinion in group]
        for kind, group in seen.opinions.items()
    }
    return replace(seen, taps=map_tensors(_leaf, dict(seen.taps)), opinions=opinions, losses={})


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().requires_grad_()


def timed(piece: Callable[[], object], device: str) -> float:
    """Return the seconds that a call takes, until the device, ``'cpu'`` or ``'cuda'``, is done with it."""
    _synchronize(device)
    started = time.perf_counter()
    piece()
    _synchronize(device)
    return time.perf_counter() - started


def _synchronize(device: str) -> None:
    if device.startswith('cuda'):
        torch.cuda.synchronize(device)


def _peak_memory(step: Callable[[], object], device: str) -> float:
    if device.startswith('cuda'):
        torch.cuda.reset_peak_memory_stats(device)
        step()
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
