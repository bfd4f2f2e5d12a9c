"""Label images that nobody labelled with a trained model: boxes and masks, classes of pixels, or depth.

    kddense label my_teacher.py teacher.pth frames/ --out frames_labels --precision 0.9

writes COCO boxes with scores, or maps of classes with scores, or depth in 16 bits. The least score of each class is chosen
on the config's validation images, such that a share of what is kept there is right; --threshold sets one for all. Call it
again after an interruption: what is done stays. Several processes share the work with --shard 1/4, 2/4 and so on.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.logging import MMLogger

from kddense.apps.command_line import ConfigOptions, change_config, in_one_sentence, new_parser
from kddense.apps.noise import ignore_known_warnings
from kddense.configs import classes_of, find_config, read_config_file
from kddense.datasets.image_files import Images, find_images, read_image
from kddense.errors import ConfigError
from kddense.report.evaluation import build_loader, load_model, plain_config, scope_of
from kddense.teachers.weights import hash_of
from kddense.training.unlabelled import pipeline_without_labels

from .families import Family, family_of
from .folder import LabelFolder

PRECISION = 0.8
OFTEN = 100  # images between two lines


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
    config = read_config_file(find_config(args.config))
    change_config(config, args.cfg_options)
    if 'model' not in config:
        raise ConfigError(f"'{args.config}' holds no model")
    config = plain_config(config)
    labeller = Labeller(config, args.checkpoint, args.device)
    family = family_of(labeller.model, labeller.classes)
    _check_options(args, family, config)
    folder = LabelFolder(args.out, family, labeller.identity(args))
    thresholds = folder.thresholds(lambda: _thresholds(args, family, labeller, _say))
    for name, least in thresholds.items():
        if least is None:
            _say(f'{name}: no score is sure enough, it gets no labels')
    _label(images, args.shard, folder, family, labeller, thresholds)
    _tell_end(images, folder, folder.finish(images.names, thresholds))
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
        dataset = _innermost(config, 'test_dataloader')
        self.steps = pipeline_without_labels(list(dataset.get('pipeline') or ()))
        if not self.steps:
            raise ConfigError('has no pipeline: images are prepared by it', 'test_dataloader.dataset')
        self.classes = (dataset.get('metainfo') or {}).get('classes') or classes_of(config) or self._classes_of_type()
        with scope_of(config):
            self.pipeline = Compose(self.steps)

    def __call__(self, path: Path) -> Any:
        """Return what the model says of an image, as a data sample."""
        with scope_of(self.config), torch.no_grad():
            data: Any = self.pipeline(dict(img_path=str(path), img_id=0))
            return self.model.test_step(dict(inputs=[data['inputs']], data_samples=[data['data_samples']]))[0]

    def identity(self, args: argparse.Namespace) -> dict[str, str]:
        """Return what decides the labels, as short texts."""
        model = f'{self.model!r} {self.config.model.get("test_cfg")} {self.steps}'
        return dict(
            weights=hash_of(self.model.state_dict()),
            model=hashlib.blake2b(model.encode(), digest_size=16).hexdigest(),
            thresholds=str(args.threshold if args.threshold is not None else f'precision {args.precision}'),
        )

    def _classes_of_type(self) -> Any:
        dataset = build_loader(self.config, 'test').dataset
        return dataset.metainfo.get('classes')  # type: ignore[attr-defined]


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
    dataset: Any = build_loader(labeller.config, 'val').dataset
    say(f'choosing the least scores on {len(dataset)} validation images')

    def judged() -> Iterator[tuple[Any, Any]]:
        for index in range(len(dataset)):
            yield labeller(Path(dataset.get_data_info(index)['img_path'])), family.truth(dataset, index)

    return dict(precision=args.precision, images=len(dataset), classes=family.choose(judged(), args.precision))


def _check_options(args: argparse.Namespace, family: Family, config: Config) -> None:
    if not family.has_classes and args.threshold is not None:
        raise ConfigError(': depth has no scores, leave it out', '--threshold')
    if family.has_classes and args.threshold is None and config.get('val_dataloader') is None:
        raise ConfigError(
            ': the config has no validation images to choose least scores by: give val_dataloader, or --threshold',
            '--precision',
        )


def _tell_end(images: Images, folder: LabelFolder, all_done: bool) -> None:
    labelled = sum(map(folder.is_done, images.names))
    unreadable = [name for name in images.names if folder.is_unreadable(name)]
    _say(f'{labelled} of {len(images.names)} images are labelled in {folder.path}')
    if unreadable:
        _say(f'{len(unreadable)} could not be read: {", ".join(unreadable)}')
    if not all_done:
        _say('the others are left to other shards')


def _innermost(config: Config, loader: str) -> Any:
    if config.get(loader) is None:
        raise ConfigError(' is missing: images are prepared by its pipeline', loader)
    dataset = config[loader].dataset
    while 'pipeline' not in dataset and 'dataset' in dataset:
        dataset = dataset.dataset
    return dataset


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
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, default={}, help='changes to the config')
    return parser.parse_args(argv)
