"""Kill trainings and resume them, many times over, and compare each with the one that nobody killed.

    python tests/kills.py --kills 50 --task chen
    python tests/kills.py --kills 50 --task structured
    python tests/kills.py --ctrl-c 8 --task chen

Half of the kills (SIGKILL) come at a random moment of the training, the other half the moment that a checkpoint, or the
file that names the last one, begins to be written, or up to 5 ms later. ``max_keep_ckpts=1``, so that each new checkpoint
replaces the only one. A kill is survived if the stock script of mmdet or mmseg then resumes with ``--resume``, and ends with
the weights, connectors, discriminators, optimisers, schedules, random numbers and losses of the other run, bit for bit.

``--ctrl-c`` interrupts ``tools/train.py`` (SIGINT to the whole group, as a terminal does, with two loader workers): it must
end by itself with no traceback, and leave a checkpoint that goes on bit for bit.

Not part of the test suite, which crashes at chosen points instead (``tests/training/test_checkpoint_hook.py``): fifty kills
take some minutes of two cores.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from contracts.test_resume import assert_equal
from helpers.processes import StockScript
from helpers.quick_python import QuickPython
from helpers.toy_task import ToyTask, losses_of, make_toy_data

from kddense.compat import load_checkpoint
from kddense.training.checkpoints import find_checkpoint

ROOT = Path(__file__).parents[1]
PARTS = ('optimizer', 'param_schedulers', 'random_state')
LIMIT = 120


@dataclass(frozen=True)
class Training:
    """One training, started as often as needed.

    Attributes:
        task: The toy task.
        config: Its config file.
        last: The name of its last checkpoint.
        python: The interpreter.
    """

    task: ToyTask
    config: Path
    last: str
    python: str

    def start(self, folder: Path, *arguments: str, own_script: bool = False) -> subprocess.Popen:
        script = StockScript(self.task.package, 'train.py', self.python)
        if not own_script:
            return script.start(
                self.config, '--work-dir', folder, *arguments, cwd=folder.parent, start_new_session=True
            )
        command = [self.python, str(ROOT / 'tools/train.py'), str(self.config), '--work-dir', str(folder), *arguments]
        environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONWARNINGS': 'ignore', 'PYTHONPATH': str(ROOT)}
        return subprocess.Popen(
            command, cwd=folder.parent, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def run(self, folder: Path, *arguments: str) -> str:
        process = self.start(folder, *arguments)
        output, _ = process.communicate(timeout=LIMIT)
        if process.returncode != 0:
            raise AssertionError(output[-3000:])
        return output

    def check(self, folder: Path, whole: dict) -> None:
        """Raise an AssertionError if a run did not end as the uninterrupted one."""
        found = load_checkpoint(folder / self.last)
        assert_equal(dict(whole['state_dict']), dict(found['state_dict']), 'state_dict')
        assert_equal(*(one['state_dict']._metadata['']['kddense'] for one in (whole, found)), 'kddense')
        for part in PARTS:
            assert_equal(whole[part], found[part], part)
        assert losses_of(whole['message_hub']) == losses_of(found['message_hub'])


def training_of(name: str, folder: Path, python: str, workers: int = 0) -> Training:
    """Return the training called ``'chen'`` or ``'structured'``."""
    for part in ('toy', 'task'):
        (folder / part).mkdir()
    make_toy_data(folder / 'toy')
    task = ToyTask('detector' if name == 'chen' else 'structured', folder / 'toy', folder / 'task')
    config = task.distilled(train_dataloader__num_workers=workers, train_dataloader__persistent_workers=workers > 0)
    for key in ('val_cfg', 'val_dataloader', 'val_evaluator'):
        config[key] = None
    config.custom_hooks = [dict(type='EMAHook', momentum=0.1), dict(type='kddense.RandomStateHook')]
    if name == 'chen':
        config.merge_from_dict({'default_hooks.checkpoint': dict(type='CheckpointHook', interval=1, max_keep_ckpts=1)})
    else:
        config.merge_from_dict({'default_hooks.checkpoint': dict(interval=3, max_keep_ckpts=1)})
    config.dump(folder / f'{name}.py')
    return Training(task, folder / f'{name}.py', 'epoch_3.pth' if name == 'chen' else 'iter_12.pth', python)


def kill(process: subprocess.Popen, folder: Path, when: float | None, chance: random.Random) -> str:
    """Kill a training after some seconds, or when it begins to write; return when that was, in words."""
    started = time.monotonic()
    if when is not None:
        time.sleep(when)
        moment = f'after {when:.2f} s'
    else:
        file, delay = chance.randrange(8), chance.choice([0, 0, 0.001, 0.002, 0.005])
        seen: set[tuple[str, int]] = set()
        while process.poll() is None and len(seen) <= file and time.monotonic() - started < LIMIT:
            for path in folder.glob('*.part'):
                seen.add((path.name, int(time.monotonic() * 5)))
        time.sleep(delay)
        moment = f'while writing file {len(seen)}, {1000 * delay:g} ms in'
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return moment


def kills(training: Training, count: int, folder: Path, chance: random.Random) -> int:
    """Kill as often as asked; return how often that was survived."""
    started = time.monotonic()
    training.run(folder / 'whole')
    length = time.monotonic() - started
    whole = load_checkpoint(folder / 'whole' / training.last)
    survived = 0
    for number in range(count):
        run = folder / f'run_{number}'
        run.mkdir()
        began = time.monotonic()
        when = chance.uniform(0.3, 1) * length if number % 2 == 0 else None
        moment = kill(training.start(run), run, when, chance)
        left = sorted(path.name for path in run.iterdir() if path.is_file() and path.suffix != '.py')
        try:
            training.run(run, '--resume')
            training.check(run, whole)
            survived += 1
            verdict = 'survived'
        except (AssertionError, OSError, ValueError) as error:
            verdict = f'LOST: {error}'
        seconds = time.monotonic() - began
        print(
            f'{number + 1}: killed {moment}, left {", ".join(left) or "nothing"}: {verdict} ({seconds:.1f} s)',
            flush=True,
        )
        if verdict == 'survived':
            shutil.rmtree(run)
    return survived


def interruptions(training: Training, count: int, folder: Path, chance: random.Random) -> int:
    """Press Ctrl-C as often as asked; return how often that went well."""
    for name in ('first', 'whole'):  # the first one warms up what all others find warm
        started = time.monotonic()
        training.start(folder / name, own_script=True).communicate(timeout=LIMIT)
        length = time.monotonic() - started
    whole = load_checkpoint(folder / 'whole' / training.last)
    well = 0
    for number in range(count):
        run = folder / f'interrupted_{number}'
        process = training.start(run, own_script=True)
        time.sleep(chance.uniform(0.3, 0.95) * length)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=LIMIT)
        last = output.strip().splitlines()[-1:]
        found = find_checkpoint(run)
        try:
            assert 'Traceback' not in output, output[-2000:]
            assert process.returncode in (0, 130), (process.returncode, output[-2000:])
            assert found is not None, output[-2000:]
            resumed = training.start(run, '--resume', own_script=True)
            rest, _ = resumed.communicate(timeout=LIMIT)
            assert resumed.returncode == 0, rest[-2000:]
            training.check(run, whole)
            well += 1
            verdict = 'goes on bit for bit'
        except AssertionError as error:
            verdict = f'WRONG: {error}'
        print(f'{number + 1}: status {process.returncode}, {last}, {found and found.name}: {verdict}', flush=True)
    return well


def main() -> None:
    """Do it, and print the count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--task', choices=['chen', 'structured'], default='chen')
    parser.add_argument('--kills', type=int, default=0)
    parser.add_argument('--ctrl-c', type=int, default=0)
    parser.add_argument('--seed', type=int, default=0, help='of the moments')
    args = parser.parse_args()
    chance = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / 'python').mkdir()
        quick = QuickPython(folder / 'python')
        try:
            training = training_of(args.task, folder, quick.program, workers=2 if args.ctrl_c else 0)
            if args.kills:
                print(f'{kills(training, args.kills, folder, chance)} of {args.kills} kills survived')
            if args.ctrl_c:
                print(
                    f'{interruptions(training, args.ctrl_c, folder, chance)} of {args.ctrl_c} interruptions went well'
                )
        finally:
            quick.close()


if __name__ == '__main__':
    main()
