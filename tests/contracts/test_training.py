"""What else a training does: mixed precision, schedules, task weights, NaN, test-time augmentation, hooks."""

from __future__ import annotations

import json

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.hooks import Hook

from kddense import Objective
from kddense.compat import load_checkpoint
from kddense.registry import MODELS


@pytest.fixture(scope='module', autouse=True)
def toy_objectives():
    class ToyOne(Objective):
        """A loss of 1, in the log at its weight."""

        def forward(self, seen, taught):
            return dict(loss=torch.ones(()))

    class ToyNaN(Objective):
        """A loss that turns NaN in its sixth iteration."""

        calls = 0

        def forward(self, seen, taught):
            self.calls += 1
            return dict(loss_toy=torch.tensor(1.0 if self.calls < 6 else float('nan')))

    for toy in (ToyOne, ToyNaN):
        MODELS.register_module(module=toy)
    yield
    for toy in (ToyOne, ToyNaN):
        MODELS._module_dict.pop(toy.__name__)


class TestMixedPrecision:
    def test_stock_training_in_mixed_precision(self, task, stock_script, tmp_path):
        short = dict(train_cfg__max_epochs=1) if task.package == 'mmdet' else dict(train_cfg__max_iters=3)
        config = task.distilled(default_hooks__checkpoint=None, **short)
        config.val_cfg = config.val_dataloader = config.val_evaluator = None
        config.dump(tmp_path / 'config.py')
        train = stock_script(task.package, 'train.py')
        train.run(tmp_path / 'config.py', '--work-dir', tmp_path / 'run', '--amp', cwd=tmp_path)
        (log,) = (tmp_path / 'run').rglob('scalars.json')
        steps = [json.loads(line) for line in log.read_text().splitlines()]
        assert len(steps) >= 3
        for step in steps:
            losses = {name: value for name, value in step.items() if 'loss' in name}
            assert {name.split('.')[1] for name in losses if name.startswith('distill.')} == set(task.objectives)
            assert all(value == value and abs(value) < 1e3 for value in losses.values()), losses

    def test_distillation_losses_are_computed_in_float32(self, task):
        distiller = task.build(task.distilled().model).train()
        data = distiller.data_preprocessor(task.batch([0, 1]), True)
        heard = []
        objective = distiller.objectives['holistic' if task.name == 'structured' else 'hint']
        objective.register_forward_pre_hook(lambda module, args: heard.append(args))
        with torch.autocast('cpu', torch.bfloat16):
            losses = distiller(**data, mode='loss')
        ((seen, taught),) = heard
        if task.name == 'structured':
            ours, theirs = (answer.opinions['pixels'][0].logits for answer in (seen, taught))
        else:
            ours, theirs = seen.taps[objective.tap][-1], taught.taps[objective.teacher_tap][-1]
        assert ours.dtype == torch.bfloat16
        assert theirs.dtype == torch.float32
        for name, value in losses.items():
            if name.startswith('distill.'):
                assert value.dtype == torch.float32, name
                assert value.isfinite(), name


class TestSchedules:
    """With warm-up over 4 iterations and a stop after 8, in a training of 12."""

    weights = [0, 0.5, 1, 1.5, 2, 2, 2, 2, 0, 0, 0, 0]

    @pytest.mark.parametrize('task', ['detector', 'segmentor'], indirect=True)
    @pytest.mark.parametrize(
        'weight',
        [dict(value=2.0, warmup=4, stop=8), dict(value=2.0, warmup=1 / 3, stop=2 / 3)],
        ids=['iterations', 'fractions'],
    )
    def test_the_log_shows_the_weights(self, task, weight, tmp_path, logged_losses):
        config = task.distilled(dict(one=dict(type='kddense.ToyOne', weight=weight)))
        config.val_cfg = config.val_dataloader = config.val_evaluator = None
        runner = task.train(config, tmp_path)
        logged = logged_losses(runner.message_hub)
        assert logged['distill.one.loss'] == self.weights
        task_losses = {name: values for name, values in logged.items() if name != 'loss' and 'distill' not in name}
        for iteration, weight in enumerate(self.weights):
            own = sum(values[iteration] for name, values in task_losses.items() if 'loss' in name)
            assert logged['loss'][iteration] == pytest.approx(own + weight, rel=1e-5)

    def test_a_resumed_schedule_goes_on(self, segmentor, tmp_path, logged_losses):
        config = segmentor.distilled(dict(one=dict(type='kddense.ToyOne', weight=dict(value=2.0, warmup=4, stop=8))))
        segmentor.train(config.copy(), tmp_path)
        config.resume, config.load_from = True, str(tmp_path / 'iter_4.pth')
        runner = segmentor.train(config, tmp_path / 'resumed')
        assert logged_losses(runner.message_hub)['distill.one.loss'] == self.weights


class TestTaskWeights:
    def losses(self, task, objectives=(), **distiller):
        """Return what the log shows of one step; the student and its samples are the same each time."""
        torch.manual_seed(4)
        model = task.build(task.distilled(dict(objectives), distiller).model).train()
        data = model.data_preprocessor(task.batch([0, 1]), True)
        torch.manual_seed(0)
        _, losses = model.parse_losses(model(**data, mode='loss'))
        return {name: value.item() for name, value in losses.items()}

    @pytest.mark.parametrize(
        'weights', [dict(loss_rpn_cls=0.5, loss_bbox=3.0), dict(loss_cls=0.0)], ids=['some', 'none of one']
    )
    def test_they_scale_losses_by_their_names(self, detector, weights):
        plain = self.losses(detector)
        weighted = self.losses(detector, task_weights=weights)
        assert plain.keys() == weighted.keys()
        for name in plain.keys() - {'loss'}:
            assert weighted[name] == pytest.approx(plain[name] * weights.get(name, 1.0), rel=1e-6), name

    def test_the_names_of_a_segmentor_hold_a_point(self, segmentor):
        plain = self.losses(segmentor)
        weighted = self.losses(segmentor, task_weights={'aux.loss_ce': 0.25})
        assert weighted['aux.loss_ce'] == pytest.approx(plain['aux.loss_ce'] / 4, rel=1e-6)
        assert weighted['decode.loss_ce'] == plain['decode.loss_ce']

    def test_an_unknown_name_is_an_error_that_lists_the_known(self, detector):
        with pytest.raises(ValueError, match='task_weights') as error:
            self.losses(detector, task_weights=dict(loss_clss=0.5))
        assert "'loss_clss'" in str(error.value)
        for name in ('loss_rpn_cls', 'loss_rpn_bbox', 'loss_cls', 'loss_bbox'):
            assert f"'{name}'" in str(error.value)

    @pytest.mark.parametrize('weight', [-0.5, float('nan'), float('inf')])
    def test_a_weight_that_means_nothing_is_refused(self, detector, weight):
        with pytest.raises(ValueError, match=r'task_weights\.loss_cls must be (finite|at least 0)'):
            detector.build(detector.distilled({}, dict(task_weights=dict(loss_cls=weight))).model)

    def test_mu_scales_the_hard_loss(self, detector):
        """Chen et al.'s μ scales the student's classification, at the head that the objective is about."""
        objectives = dict(rpn=dict(type='kddense.ChenRPNObjective', mu=0.25, nu=0))
        plain = self.losses(detector)
        losses = self.losses(detector, objectives, task_weights=dict(loss_rpn_cls=2.0))
        assert losses['loss_rpn_cls'] == pytest.approx(plain['loss_rpn_cls'] * 2.0 * 0.25, rel=1e-6)
        assert losses['loss_cls'] == plain['loss_cls']


def test_nan_stops_the_training_and_names_objective_and_iteration(detector, tmp_path):
    objectives = dict(**detector.objectives, bad=dict(type='kddense.ToyNaN'))
    config = detector.distilled(objectives)
    runner = detector.runner(config, tmp_path)
    with pytest.raises(FloatingPointError) as error:
        runner.train()
    assert str(error.value).startswith('distill.bad.loss_toy is NaN or infinite at iteration 5.')
    assert (tmp_path / 'last_checkpoint').read_text().endswith('epoch_1.pth')
    assert [path.name for path in tmp_path.glob('*.pth')] == ['epoch_1.pth']
    saved = load_checkpoint(tmp_path / 'epoch_1.pth')
    detector.build(detector.plain().model).load_state_dict(saved['state_dict'], strict=True)
    assert all(value.isfinite().all() for value in runner.model.state_dict().values())


class TestItIsTheStudent:
    @pytest.mark.parametrize('mode', ['tensor', 'predict'])
    def test_in_every_mode_but_loss(self, task, mode):
        distiller = task.build(task.distilled().model).eval()
        plain = task.build(task.plain().model).eval()
        plain.load_state_dict(distiller.state_dict())
        data = plain.data_preprocessor(task.batch([0, 1]), False)
        if task.name == 'mask_segmentor' and mode == 'tensor':  # a mode that mmseg's own Mask2Former does not have
            for model in (plain, distiller):
                with pytest.raises(TypeError, match='batch_data_samples'):
                    model(**data, mode=mode)
            return
        torch.manual_seed(0)
        expected = plain(**data, mode=mode)
        found = distiller(**distiller.data_preprocessor(task.batch([0, 1]), False), mode=mode)
        for own, other in zip(leaves(found), leaves(expected), strict=True):
            assert torch.equal(own, other)
        assert len(list(leaves(expected))) > 0

    def test_under_test_time_augmentation(self, detector, detector_story, tmp_path):
        flips = [[dict(type='RandomFlip', prob=1.0), dict(type='RandomFlip', prob=0.0)]]
        keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip', 'flip_direction')
        augmentation = dict(type='TestTimeAug', transforms=[*flips, [dict(type='PackDetInputs', meta_keys=keys)]])
        metrics = []
        for config in (detector.plain(), detector.distilled()):
            tta = dict(type='DetTTAModel', tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100))
            config.model = ConfigDict(**tta, module=config.model)
            config.test_dataloader.dataset.pipeline[-1] = augmentation
            config.load_from = str(detector_story.resumed)
            metrics.append(detector.runner(config, tmp_path / str(len(metrics))).test())
        assert metrics[0]['coco/bbox_mAP_50'] > 0
        assert metrics[0] == metrics[1]

    def test_to_hooks_that_reach_for_parts(self, detector, tmp_path):
        class Reaching(Hook):
            def before_train(self, runner):
                assert runner.model.with_neck
                assert runner.model.get_submodule('backbone.layer1') is runner.model.backbone.layer1
                runner.model.roi_head.bbox_head.loss_cls.loss_weight = 0.0

        config = detector.distilled({}, train_cfg__max_epochs=1)
        runner = detector.runner(config, tmp_path)
        runner.register_hook(Reaching())
        runner.train()
        student = runner.model.student
        assert runner.model.roi_head is student.roi_head
        assert student.roi_head.bbox_head.loss_cls.loss_weight == 0.0
        assert not runner.message_hub.get_scalar('train/loss_cls').data[0].any()

    def test_to_the_class_check_of_mmdet(self, detector, tmp_path):
        config = detector.distilled(model__roi_head__bbox_head__num_classes=4)
        config.model.objectives.pop('roi')
        config.custom_hooks = [dict(type='NumClassCheckHook')]
        runner = detector.runner(config, tmp_path)
        with pytest.raises(AssertionError, match='num_classes'):
            runner.train()

    def test_a_part_that_neither_has_is_an_attribute_error(self, task):
        distiller = task.build(task.distilled({}).model)
        assert not hasattr(distiller, 'no_such_part')
        with pytest.raises(AttributeError, match='no_such_part'):
            distiller.no_such_part  # noqa: B018


def leaves(value):
    """Yield all tensors in predictions."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from leaves(item)
    elif hasattr(value, 'all_items'):
        for _, item in sorted(value.all_items()):
            yield from leaves(item)
    elif hasattr(value, 'tensor'):
        yield value.tensor


class TestCompiled:
    @pytest.mark.parametrize(
        'task, how', [('segmentor', True), ('one_stage', dict(backend='eager'))], indirect=['task']
    )
    def test_a_compiled_training_ends_with_the_same_weights(self, task, how, tmp_path):
        """A detector is compiled without code for the processor, which takes minutes on two cores."""
        short = dict(train_cfg__max_epochs=1) if task.package == 'mmdet' else dict(train_cfg__max_iters=3)
        found = []
        for compiled in (False, how):
            config = task.distilled(default_hooks__checkpoint=None, **short)
            config.val_cfg = config.val_dataloader = config.val_evaluator = None
            config.compile = compiled
            runner = task.train(config, tmp_path / str(len(found)))
            found.append(runner.model.state_dict())
        assert 'train_step' in vars(runner.model), 'compiled'
        assert found[0].keys() == found[1].keys()
        for key, value in found[0].items():
            torch.testing.assert_close(found[1][key], value, rtol=2e-6, atol=2e-7)
