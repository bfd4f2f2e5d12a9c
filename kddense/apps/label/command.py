"""Label images that nobody labelled with a trained model: boxes and masks, classes of pixels, or depth.

    kddense label my_teacher.py teacher.pth frames/ --out frames_labels --precision 0.9

writes COCO boxes with scores, or maps of classes with scores, or depth in 16 bits. The least score of each class is chosen
on the config's validation images, such that a share of what is kept there is right; --threshold sets one for all. Call it
again after an interruption: what is done stays. Several processes share the work with --shard 1/4, 2/4 and so on.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.logging import MMLogger

from kddense.apps.command_line import ConfigOptions, change_config, count, in_one_sentence, new_parser
from kddense.apps.noise import ignore_known_warnings
from kddense.configs import class_names, classes_of, find_config, innermost_dataset, read_config_file
from kddense.datasets.image_files import Images, find_images, read_image
from kddense.errors import ConfigError, sentence_of
from kddense.report.evaluation import build_loader, load_model, plain_config, scope_of
from kddense.teachers.weights import hash_of
from kddense.training.quantised import quantising_config
from kddense.training.unlabelled import pipeline_without_labels

from .families import LEVELS_PER_METRE, Family, family_of
from .folder import LabelFolder

PRECISION = 0.8
OFTEN = 100  # images between two lines
NO_IMAGES = 'has no validation images to choose least scores by: give it some, or --threshold'


@in_one_sentence()
def main(argv: Sequence[str] | None = None) -> int:
    """Label images.

    Args:
        argv: The arguments; those of the process by default.

    Returns:
        The exit status: 0 if this call's share is done.
    """
    args = _parse_args(argv)
    ignore_known_warnings()
    MMLogger.get_instance('label', log_level='ERROR')
    images = find_images(args.images)
    _check_place(args, images)
    config = read_config_file(find_config(args.config))
    change_config(config, args.cfg_options)
    if 'model' not in config:
        raise ConfigError(f"'{args.config}' holds no model")
    config = plain_config(config)
    labeller = Labeller(config, args.checkpoint, args.device)
    family = family_of(labeller.model, labeller.classes, args.depth_levels)
    _check_options(args, family, config)
    identity = dict(images=str(images.root.resolve()), **labeller.identity(), **_limits(args, family, config))
    folder = LabelFolder(args.out, family, identity)
    thresholds = folder.thresholds(lambda: _thresholds(args, family, labeller, _say))
    for name, least in thresholds.items():
        if least is None:
            _say(f'{name}: no score is sure enough, it gets no labels')
    _label(images, args.shard, folder, family, labeller, thresholds)
    _tell_end(images, folder, folder.finish(images.names, thresholds))
    if told := family.told():
        _say(told)
    return 0


class Labeller:
    """A trained model that is shown one image at a time, so that no image depends on another.

    Args:
        config: A plain config with a ``test_dataloader``, whose pipeline it uses.
        checkpoint: Its weights.
        device: Where it runs.
    """

    def __init__(self, config: Config, checkpoint: str, device: str) -> None:
        self.config = config
        self.model: Any = load_model(config, checkpoint, name='model').to(device)
        if config.get('test_dataloader') is None:
            raise ConfigError(' is missing: images are prepared by its pipeline', 'test_dataloader')
        dataset = innermost_dataset(config.test_dataloader.dataset)
        self.steps = pipeline_without_labels(list(dataset.get('pipeline') or ()))
        if not self.steps:
            raise ConfigError('has no pipeline: images are prepared by it', 'test_dataloader.dataset')
        own = class_names((dataset.get('metainfo') or {}).get('classes'))
        self.classes = own or classes_of(config) or self._classes_of_type()
        with scope_of(config):
            self.pipeline = Compose(self.steps)

    def __call__(self, path: Path) -> Any:
        """Return what the model says of an image, as a data sample."""
        with scope_of(self.config), torch.no_grad():
            data: Any = self.pipeline(dict(img_path=str(path), img_id=0))
            return self.model.test_step(dict(inputs=[data['inputs']], data_samples=[data['data_samples']]))[0]

    def identity(self) -> dict[str, str]:
        """Return what decides the labels of an image, as short texts."""
        settings = [self.config.model.get(key) for key in ('test_cfg', 'data_preprocessor')]
        return dict(
            weights=hash_of(self.model.state_dict()),
            model=_digest(f'{self.model!r} {settings} {self.steps} {quantising_config(self.config)}'),
            classes=', '.join(self.classes or ()),
        )

    def _classes_of_type(self) -> Any:
        dataset = build_loader(self.config, 'test').dataset
        return dataset.metainfo.get('classes')  # type: ignore[attr-defined]


def _limits(args: argparse.Namespace, family: Family, config: Config) -> dict[str, str]:
    """Return what decides which labels are kept, as short texts."""
    if not family.has_classes:
        return dict(depth_levels=str(args.depth_levels))
    if args.threshold is not None:
        return dict(thresholds=str(args.threshold))
    return dict(
        thresholds=f'precision {args.precision}', validation_images=_digest(str(config.val_dataloader.get('dataset')))
    )


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _label(
    images: Images,
    shard: tuple[int, int],
    folder: LabelFolder,
    family: Family,
    labeller: Labeller,
    thresholds: dict[str, float | None],
) -> None:
    own = images.names[shard[0] - 1 :: shard[1]]
    for number, name in enumerate(own, 1):
        if number % OFTEN == 0:
            _say(f'{number} of {len(own)}')
        if folder.is_done(name) or folder.is_unreadable(name):
            continue
        if read_image(images.path(name)) is None:
            folder.note_unreadable(name)
        else:
            folder.keep(family.files(labeller(images.path(name)), name, thresholds))


def _thresholds(
    args: argparse.Namespace, family: Family, labeller: Labeller, say: Callable[[str], None]
) -> dict[str, Any]:
    if not family.has_classes:
        return dict(classes={})
    if args.threshold is not None:
        return dict(classes=dict.fromkeys(family.classes, args.threshold))
    dataset = _validation_images(labeller.config)
    say(f'choosing the least scores on {len(dataset)} validation images')

    def judged() -> Iterator[tuple[Any, Any]]:
        for index in range(len(dataset)):
            yield labeller(Path(dataset.get_data_info(index)['img_path'])), family.truth(dataset, index)

    return dict(precision=args.precision, images=len(dataset), classes=family.choose(judged(), args.precision))


def _validation_images(config: Config) -> Any:
    config = copy.deepcopy(config)
    innermost_dataset(config.val_dataloader.dataset).serialize_data = False  # mmengine cannot serialise an empty list
    dataset: Any = build_loader(config, 'val').dataset
    if len(dataset) == 0:
        raise ConfigError(f': val_dataloader {NO_IMAGES}', '--precision')
    return dataset


def _check_place(args: argparse.Namespace, images: Images) -> None:
    """Raise a ConfigError if what is written would be among the images of the next call."""
    out = args.out.resolve()
    searched = Path(args.images)
    inside = [name for name in images.names if images.path(name).resolve().is_relative_to(out)]
    if inside or (searched.is_dir() and out.is_relative_to(searched.resolve())):
        what = (
            f'holds images to be labelled, {inside[0]} say' if inside else f"lies in the folder of images '{searched}'"
        )
        raise ConfigError(f"'{args.out}' {what}: name a folder beside them, as label maps are images too", '--out')


def _check_options(args: argparse.Namespace, family: Family, config: Config) -> None:
    if not family.has_classes and args.threshold is not None:
        raise ConfigError(': depth has no scores, leave it out', '--threshold')
    if family.has_classes and args.depth_levels != LEVELS_PER_METRE:
        raise ConfigError(': only depth has levels, leave it out', '--depth-levels')
    if family.has_classes and args.threshold is None and config.get('val_dataloader') is None:
        raise ConfigError(f': the config {NO_IMAGES}', '--precision')


def _tell_end(images: Images, folder: LabelFolder, all_done: bool) -> None:
    labelled = sum(map(folder.is_done, images.names))
    unreadable = [name for name in images.names if folder.is_unreadable(name)]
    _say(f'{labelled} of {len(images.names)} images are labelled in {folder.path}, by their paths in {images.root}')
    if unreadable:
        _say(f'{len(unreadable)} could not be read: {", ".join(unreadable)}')
    if not all_done:
        _say('the others are left to other shards')


def _say(text: str) -> None:
    print(text, flush=True)


def _shard(text: str) -> tuple[int, int]:
    number, _, count = text.partition('/')
    if not (number.isdigit() and count.isdigit() and 1 <= int(number) <= int(count)):
        raise argparse.ArgumentTypeError(f'must be such as 1/4, up to 4/4, got {text!r}')
    return int(number), int(count)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f'must be a number, got {text!r}') from None
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f'must lie in 0..1, got {text}')
    return value


def _device(text: str) -> str:
    try:
        torch.empty(0, device=text)
    except (RuntimeError, AssertionError) as error:
        raise argparse.ArgumentTypeError(f'{text!r} is not there: {sentence_of(error)}') from None
    return text


def _parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = new_parser(__doc__)
    parser.add_argument('config', help='a config; of a distillation, the student labels')
    parser.add_argument('checkpoint', help='its weights')
    parser.add_argument('images', help="a folder, a pattern such as 'frames/*/*.png', or a .txt list of paths")
    parser.add_argument('--out', type=Path, required=True, help='the folder of the labels')
    scores = parser.add_mutually_exclusive_group()
    scores.add_argument(
        '--precision', type=_share, default=PRECISION, help=f'which share of the labels is to be right; {PRECISION}'
    )
    scores.add_argument('--threshold', type=_share, help='the least score of every class instead')
    parser.add_argument('--shard', type=_shard, default=(1, 1), help='which part is labelled here, such as 2/4')
    parser.add_argument(
        '--depth-levels', type=count, default=LEVELS_PER_METRE, help=f'of 16 bits, for a metre; {LEVELS_PER_METRE}'
    )
    parser.add_argument('--device', type=_device, default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, default={}, help='changes to the config')
    return parser.parse_args(argv)
