"""A teacher: a trained model that answers questions, and is never part of what is trained."""

from __future__ import annotations

import copy
import importlib.util
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.logging import print_log
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from kddense.compat import load_checkpoint
from kddense.random_state import forked_random_state
from kddense.registry import MODELS
from kddense.taps import tensors_of
from kddense.teachers.image_format import PixelFormat, fit_canvas, pad_to_divisor, rescale, translate
from kddense.views import ModelView, Question, build_view

PRECISIONS = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}
EXTRAS = {'mmdet': 'detection', 'mmseg': 'segmentation'}  # which of kddense's extras installs a library
NORMS = (nn.modules.batchnorm._NormBase,)


class Teacher(nn.Module):
    """Builds, loads, freezes, places and runs a teacher.

    It is in eval mode for good (dropout and drop-path too), needs no gradient, draws no random number, and follows
    ``.to()`` and friends. :class:`kddense.Distiller` keeps it outside its own modules, so that it is in no optimiser,
    checkpoint, EMA copy or DDP bucket; a deep copy of the distiller shares it.

    Args:
        config: ``'package::path'``, the path of a config file, a ``Config``, or a dict: a whole config, or a model.
            The config of a run of kddense stands for its student.
        checkpoint: Path or URL of its weights; ``None``, spelt out, leaves it untrained.
        precision: ``'fp32'``, ``'bf16'`` or ``'fp16'``. Weights and maps are kept in it, statistics of normalisation
            layers stay in float32; what it answers is float32 again. In low precision batch norms are folded into
            their convolutions where that changes nothing: a tap on such a convolution hears both.
        channels_last: Run it in the channels-last memory format: faster on most CPUs and GPUs in low precision.
        input_scale: Size of the image that it sees, relative to the student's. The image comes from the pipeline if
            :class:`kddense.ShrinkForStudent` kept it, else the student's is resized.
        class_map: For every class of the student the teacher's that it is, by name or index: selects and orders the classes
            of a teacher that was trained on others. Softmax is then taken over the selected ones.
        trust_checkpoint: Load a checkpoint that holds pickled code. Only for files whose source you trust.
        name: What messages call it: the config key it came from.

    Raises:
        ValueError: If an argument, the config or the checkpoint does not fit; the message names the config key.
        FileNotFoundError: If there is no such checkpoint.
    """

    def __init__(
        self,
        config: str | Path | Config | Mapping[str, Any],
        checkpoint: str | None,
        precision: str = 'fp32',
        channels_last: bool = False,
        input_scale: float = 1.0,
        class_map: Sequence[str | int] | None = None,
        trust_checkpoint: bool = False,
        name: str = 'teacher',
    ) -> None:
        super().__init__()
        if precision not in PRECISIONS:
            raise ValueError(f"{name}.precision must be one of {', '.join(PRECISIONS)}, got '{precision}'")
        if not isinstance(input_scale, (int, float)) or not 0 < input_scale < float('inf'):
            raise ValueError(f'{name}.input_scale must be a positive number, got {input_scale}')
        self.name = name
        self.checkpoint = checkpoint
        self.input_scale = float(input_scale)
        self.dtype = PRECISIONS[precision]
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        package = config.partition('::')[0] if isinstance(config, str) and '::' in config else None
        config = read_teacher_config(config, name)
        self.model: Any = _build_model(config, package, name)  # a class of another library
        self.classes = _classes_of(config)
        self.pixel_format = PixelFormat.of(self.model.data_preprocessor)
        if checkpoint is None:
            print_log(f'{name}.checkpoint is None: the teacher is untrained', logger='current', level=30)
        else:
            self.classes = load_weights(self.model, checkpoint, trust_checkpoint, name) or self.classes
        self.class_map = None if class_map is None else _class_indices(class_map, self.classes, name)
        self.model.requires_grad_(False).eval()
        self._cast()
        self.view: ModelView = build_view(self.model, name, self.input_scale, self.class_map)

    def _cast(self) -> None:
        if self.dtype == torch.float32:
            self.model.to(memory_format=self.memory_format)
            return
        if hasattr(self.model, 'backbone'):
            self.model.backbone = _folded(self.model.backbone)
        _fold_conv_modules(self.model)
        self.model.to(self.dtype).to(memory_format=self.memory_format)
        for module in self.model.modules():
            if isinstance(module, NORMS):
                module.float()

    def train(self, mode: bool = True) -> Teacher:
        """Stay in eval mode, whatever is asked."""
        return super().train(False)

    def check_classes(self, student: Sequence[str] | None, what: str) -> None:
        """Raise a ValueError if the names of the student's classes are known and are not this teacher's.

        Args:
            student: Names of the classes of the student's dataset, ``None`` if unknown.
            what: The config key of what compares the classes.
        """
        if student is None or self.classes is None or self.class_map is not None:
            return
        pairs = zip(student, self.classes, strict=False)
        differing = [pair for pair in pairs if pair[0].lower() != pair[1].lower()]
        if len(student) == len(self.classes) and not differing:
            return
        found = (
            f"'{differing[0][0]}' is '{differing[0][1]}' there"
            if differing
            else f'{len(student)} and {len(self.classes)}'
        )
        raise ValueError(
            f"{what}: the student's classes are not those of the {self.name} ({found}); choose and order the teacher's with "
            f'{self.name}.class_map, one name or index for each of {", ".join(student)}'
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> Teacher:
        return self

    @torch.no_grad()
    def answer(self, question: Question, inputs: Tensor, data_samples: Sequence[Any], student: PixelFormat) -> Any:
        """Run the parts that ``question`` asks about, on the pixels that the student sees.

        Args:
            question: Taps to listen to and boxes to judge, see :class:`kddense.views.Question`.
            inputs: The student's inputs, shape ``(N, C, H, W)``.
            data_samples: The student's data samples, for the sizes of the images.
            student: The format of ``inputs``.

        Returns:
            kddense.views.Answer: Values by tap and knowledge by kind, float32 and detached.
        """
        images, covered = self._look(inputs, data_samples, student)
        with torch.autocast(inputs.device.type, enabled=False):
            return self.view.answer(question.rescaled(self.input_scale), images, covered)

    def _look(
        self, inputs: Tensor, data_samples: Sequence[Any], student: PixelFormat
    ) -> tuple[Tensor, tuple[int, ...]]:
        """Return the teacher's inputs, and the height and width of the part that the student's inputs cover."""
        own = self.pixel_format
        kept = [sample.metainfo.get('teacher_img') for sample in data_samples]
        if kept and all(image is not None for image in kept):
            self._check_kept(kept, data_samples)
            batch = [torch.from_numpy(image).permute(2, 0, 1).to(inputs.device).float()[None] for image in kept]
            canvas = [round(length * self.input_scale) for length in inputs.shape[-2:]]
            seen = [translate(image, PixelFormat(), own, [image.shape[-2:]])[0] for image in batch]
            images = fit_canvas(seen, canvas, own.pad_value)
        else:
            sizes = [sample.metainfo.get('img_shape', inputs.shape[-2:]) for sample in data_samples]
            images = rescale(translate(inputs.float(), student, own, sizes), self.input_scale)
        covered = tuple(images.shape[-2:])
        images = pad_to_divisor(images, own.size_divisor, own.pad_value)
        dtype = self.view.image_dtype()  # not always `self.dtype`: `.half()` and friends reach a teacher
        return images.to(dtype, memory_format=self.memory_format), covered

    def _check_kept(self, images: Sequence[Any], data_samples: Sequence[Any]) -> None:
        for image, sample in zip(images, data_samples, strict=True):
            wanted = [length * self.input_scale for length in sample.img_shape[:2]]
            if any(abs(own - want) > self.input_scale + 1 for own, want in zip(image.shape[:2], wanted, strict=True)):
                raise ValueError(
                    f'{self.name}.input_scale is {self.input_scale:g}, but ShrinkForStudent kept an image of '
                    f'{tuple(image.shape[:2])} for one of {tuple(sample.img_shape[:2])}: set input_scale to its factor'
                )


def _folded(backbone: nn.Module) -> nn.Module:
    """Fold batch norms into the convolutions before them, if the result is the same network.

    mmcv pairs a norm with the convolution defined before it, which need not be the one that runs before it.
    """
    from mmcv.cnn import fuse_conv_bn

    weight = next(backbone.parameters())
    image = torch.linspace(-2, 2, 3 * 64 * 64, device=weight.device, dtype=weight.dtype).view(1, 3, 64, 64)
    with torch.no_grad():
        expected = list(tensors_of(backbone(image)))
        folded = fuse_conv_bn(copy.deepcopy(backbone)).requires_grad_(False)
        got = list(tensors_of(folded(image)))
    return folded if all(map(_are_close, expected, got)) else backbone


def _are_close(expected: Tensor, got: Tensor) -> bool:
    scale = expected.abs().max()
    return bool(scale.isfinite()) and torch.allclose(expected, got, rtol=1e-3, atol=1e-3 * float(scale))


def _fold_conv_modules(model: nn.Module) -> None:
    """Fold the batch norms of mmcv's ConvModules, which say in which order they run, unless a convolution is shared."""
    from mmcv.cnn import ConvModule, fuse_conv_bn

    uses = Counter(id(module) for _, module in model.named_modules(remove_duplicate=False))
    for module in list(model.modules()):
        if isinstance(module, ConvModule) and module.order[:2] == ('conv', 'norm') and uses[id(module.conv)] == 1:
            fuse_conv_bn(module)
    model.requires_grad_(False)


def _build_model(config: Mapping[str, Any], package: str | None, name: str) -> nn.Module:
    whole = config if config.get('model') else dict(model=config)
    if 'type' not in whole['model']:
        raise ValueError(f'{name}.config holds no model: it needs a `model` dict, or to be one with a `type`')
    model = plain_model(whole)
    scope = config.get('default_scope') or package or current_scope()
    require_library(model, scope, f'{name}.config')
    with forked_random_state(), DefaultScope.overwrite_default_scope(scope):
        return MODELS.build(model)


def is_distiller(model: Mapping[str, Any]) -> bool:
    """Tell whether the config of a model is one of :class:`kddense.Distiller`."""
    return str(model['type']).rpartition('.')[2] == 'Distiller'


def plain_model(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of the model that a whole config is for: of a distillation, its student without a teacher.

    Its data preprocessor comes along from where mmengine and :class:`kddense.Distiller` would pass it in.
    """
    model = dict(config['model'])
    preprocessor = model.get('data_preprocessor') or config.get('data_preprocessor')
    if is_distiller(model):
        model = dict(model['student'])
    if preprocessor:
        model.setdefault('data_preprocessor', preprocessor)
    return model


def current_scope() -> str | None:
    """Return the default scope that the runner has set, if any."""
    current = DefaultScope.get_current_instance()
    return current.scope_name if current is not None else None


def read_teacher_config(config: str | Path | Config | Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return what a teacher's ``config`` stands for; ``name`` is how messages call the teacher."""
    if isinstance(config, (Config, Mapping)):
        return config
    package, separator, _ = str(config).partition('::')
    if not separator:
        if not Path(config).is_file():
            raise FileNotFoundError(f"{name}.config: there is no file '{config}'")
        return Config.fromfile(config)
    require_package(package, f"{name}.config '{config}'")
    try:
        return get_config(str(config))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{name}.config '{config}': {error}") from error


def require_library(model: Mapping[str, Any], scope: str | None, what: str) -> None:
    """Raise an ImportError that says what to install, if the library that a model's config is written for is absent."""
    package, dot, _ = str(model['type']).partition('.')
    library = package if dot else scope
    if library in EXTRAS:
        require_package(library, what)


def require_package(package: str, what: str) -> None:
    """Raise an ImportError that says what to install, if ``package`` is absent."""
    if importlib.util.find_spec(package) is None:
        extra = EXTRAS.get(package)
        install = f"pip install 'kddense[{extra}]'" if extra else f'pip install {package}'
        raise ImportError(f'{what} needs {package}, which is not installed: {install}')


def _classes_of(config: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the names of the classes that a whole config is trained on, if it spells them out."""
    dataset = (config.get('train_dataloader') or {}).get('dataset') or {}
    classes = (dataset.get('metainfo') or {}).get('classes')
    return None if classes is None else tuple(classes)


def _class_indices(class_map: Sequence[str | int], classes: Sequence[str] | None, name: str) -> list[int]:
    by_name = {own: index for index, own in enumerate(classes or ())}
    unknown = [one for one in class_map if isinstance(one, str) and one not in by_name]
    if unknown:
        known = f'they are {", ".join(by_name)}' if by_name else 'its names are not known, use indices'
        raise ValueError(f'{name}.class_map: the teacher has no class {", ".join(map(repr, unknown))}; {known}')
    return [by_name[one] if isinstance(one, str) else one for one in class_map]


def load_weights(
    model: nn.Module, checkpoint: str, trust_checkpoint: bool = False, name: str = 'teacher'
) -> tuple[str, ...] | None:
    """Load a checkpoint into a model, every weight of it.

    Args:
        model: The model to fill.
        checkpoint: Path or URL: a full checkpoint of mmengine, or a bare state dict.
        trust_checkpoint: See :class:`Teacher`.
        name: The config key that messages name.

    Returns:
        The names of the classes that the model was trained on, if the checkpoint says.

    Raises:
        ValueError: If any weight of the model is missing or of another shape, or the file holds others.
    """
    try:
        contents = load_checkpoint(checkpoint, trust_checkpoint=trust_checkpoint)
    except (ValueError, OSError) as error:
        raise type(error)(f'{name}.checkpoint: {error}') from error
    saved = contents.get('state_dict', contents)
    weights = OrderedDict((key.removeprefix('module.'), value) for key, value in saved.items())
    # With the versions of the modules: some of mmdet's rename what older ones wrote.
    weights._metadata = getattr(saved, '_metadata', {})  # type: ignore[attr-defined]
    own = model.state_dict()
    reshaped = [key for key in own if key in weights and weights[key].shape != own[key].shape]
    shapes = [f'{key} {tuple(weights.pop(key).shape)} for {tuple(own[key].shape)}' for key in reshaped]
    loaded = model.load_state_dict(weights, strict=False)
    missing = [key for key in loaded.missing_keys if key not in reshaped and not key.endswith('num_batches_tracked')]
    faults = {'missing': missing, 'unexpected': list(loaded.unexpected_keys), 'of another shape': shapes}
    if any(faults.values()):
        raise ValueError(
            f"{name}.checkpoint '{checkpoint}' is of another architecture than {name}.config ({type(model).__name__}): "
            + '; '.join(_count(kind, keys) for kind, keys in faults.items() if keys)
        )
    meta = contents.get('meta') or {}
    classes = (meta.get('dataset_meta') or {}).get('classes') or meta.get('CLASSES')
    return None if classes is None else tuple(classes)


def _count(kind: str, keys: Sequence[str], shown: int = 3) -> str:
    more = ', …' if len(keys) > shown else ''
    return f'{len(keys)} {"keys" if len(keys) > 1 else "key"} {kind} ({", ".join(keys[:shown])}{more})'
