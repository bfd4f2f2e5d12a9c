"""The student's config is what it would have been without a teacher."""

from __future__ import annotations

import importlib
import sys
import textwrap
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.hub import get_config

from kddense.export import PlainConfig
from kddense.registry import TRANSFORMS, Plain

from ..helpers.cached import on_variants, with_cache
from ..helpers.export_runs import distilled, plain, plain_settings

ROOT = Path(__file__).parents[2]
STOCK = {
    'detrdistill/detrdistill_swin-l_r50_dino_12e_coco.py': 'mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py',
    'kd_detr/kd-detr_r101_r50_deformable-detr_50e_coco.py': 'mmdet::deformable_detr/deformable-detr_r50_16xb2-50e_coco.py',
    'masks/masks_r101_r50_mask-rcnn_fpn_1x_coco.py': 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
    'masks/mask-queries_r101_r50_mask2former_lsj-50e_coco.py': 'mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco.py',
    'masks/mask-queries_r101_r50_mask2former_512x1024_cityscapes.py': (
        'mmseg::mask2former/mask2former_r50_8xb2-90k_cityscapes-512x1024.py'
    ),
    'crosskd/crosskd_r101_r50_gfl_fpn_1x_coco.py': 'mmdet::gfl/gfl_r50_fpn_1x_coco.py',
}


class TestPlainConfig:
    def test_it_is_the_students_own(self, task):
        config = distilled(task)
        config.update(resume=True, load_from='distilled.pth', work_dir='run')
        config.custom_hooks = [dict(type='EMAHook'), dict(type='kddense.RandomStateHook')]
        expected = dict(plain(task).to_dict(), custom_hooks=[dict(type='EMAHook')])
        del expected['resume'], expected['load_from']
        assert PlainConfig.of(config).settings == expected

    @pytest.mark.parametrize('name', ['detector', 'one_stage', 'segmentor', 'structured'])
    def test_a_stock_student_needs_nothing_of_kddense(self, name, request):
        found = PlainConfig.of(distilled(request.getfixturevalue(name)))
        assert found.needs == ()
        assert 'kddense' not in Config(found.settings).pretty_text

    @pytest.mark.parametrize('path', STOCK)
    def test_detectors_with_queries_and_masks_are_stock_ones_again(self, path):
        found = PlainConfig.of(Config.fromfile(ROOT / 'configs' / path))
        assert found.needs == ()
        scope = STOCK[path].partition('::')[0]  # which mmengine adds to what a config inherits
        assert found.settings['model'] == dict(get_config(STOCK[path]).model.to_dict(), _scope_=scope)

    def test_a_students_head_of_kddense_is_told(self, depth):
        found = PlainConfig.of(distilled(depth))
        assert found.needs[0] == 'kddense.DepthHead in model.decode_head'
        assert found.settings['custom_imports']['imports'] == ['kddense']
        assert found.settings['test_evaluator']['type'] == 'kddense.DepthMetric'  # it is there, and measures the same

    @pytest.mark.parametrize('name', ['detector', 'segmentor'])
    def test_variants_of_images_are_given_up(self, name, request, tmp_path):
        task = request.getfixturevalue(name)
        config = on_variants(with_cache(distilled(task), tmp_path))
        found = PlainConfig.of(config)
        assert found.settings['train_dataloader'] == plain(task).to_dict()['train_dataloader']
        assert found.needs == ()
        assert any('VariantDataset' in one and 'every pass draws anew' in one for one in found.dropped)

    @pytest.mark.parametrize('beside', ['the student', 'the model'])
    def test_a_preprocessor_beside_it_comes_along(self, structured, beside):
        config = distilled(structured)
        holder = config.model if beside == 'the student' else config
        holder.data_preprocessor = config.model.student.pop('data_preprocessor')
        assert PlainConfig.of(config).settings['model'] == plain_settings(structured)['model']

    def test_schedules_and_constructor_are_given_back(self, structured):
        config = distilled(structured)
        schedule = [dict(type='PolyLR', power=0.9, by_epoch=False)]
        config.param_scheduler = dict(student=schedule, holistic=[dict(type='ConstantLR')])
        config.optim_wrapper.student_constructor = 'LearningRateDecayOptimizerConstructor'
        found = PlainConfig.of(config)
        own = plain(structured).optim_wrapper.to_dict()
        assert found.settings['optim_wrapper'] == dict(own, constructor='LearningRateDecayOptimizerConstructor')
        assert found.settings['param_scheduler'] == schedule

    @pytest.mark.parametrize(
        'teaching, student',
        [
            ('skd/skd_r101_r18_pspnet_512x512_cityscapes', 'skd/pspnet_r18_512x512_cityscapes'),
            ('skd/skd_r50_r18_depth_nyu', 'skd/depth_r18_nyu'),
            ('skd/skd-unlabelled_r18-w32_r18-w8_pspnet_camvid', 'skd/pspnet_r18-w8_camvid'),
        ],
    )
    def test_the_projects_configs_become_their_students(self, teaching, student):
        configs = (Config.fromfile(ROOT / 'configs' / f'{name}.py') for name in (teaching, student))
        found, expected = (PlainConfig.of(config).settings for config in configs)
        assert found == expected

    def test_a_shrunken_image_is_resized(self):
        config = Config.fromfile(ROOT / 'configs/chen2017/chen_r50_r50-low-res_fpn_1x_coco.py')
        pipeline = PlainConfig.of(config).settings['train_dataloader']['dataset']['pipeline']
        assert [step['type'] for step in pipeline[2:]] == ['Resize', 'RandomFlip', 'Resize', 'PackDetInputs']
        assert pipeline[4] == dict(type='Resize', keep_ratio=True, scale_factor=0.5)
        assert 'teacher_img' not in pipeline[5]['meta_keys']

    def test_a_shrunken_image_to_test_on_is_left(self, detector):
        config = distilled(detector)
        config.test_dataloader.dataset.pipeline.insert(2, dict(type='kddense.ShrinkForStudent', factor=2))
        assert PlainConfig.of(config).needs == ('kddense.ShrinkForStudent in test_dataloader.dataset.pipeline',)

    @pytest.mark.parametrize(
        'crop, expected', [('nyu_crop', [dict(type='mmseg.DepthMetric', crop_type='nyu_crop')]), ('garg_crop', [])]
    )
    def test_the_metric_of_a_stock_depth_estimator(self, depth, crop, expected):
        config = distilled(depth)
        config.model.student.decode_head = dict(type='VPDDepthHead')
        config.test_evaluator = dict(type='kddense.DepthMetric', crop_type=crop, depth_metrics=['rmse'])
        found = PlainConfig.of(config)
        assert found.settings['test_evaluator'] == expected
        assert any(dropped.startswith('kddense.DepthMetric') for dropped in found.dropped)
        assert found.needs == ()

    def test_hooks_are_told(self, detector):
        config = distilled(detector)
        config.custom_hooks = [dict(type='kddense.RandomStateHook'), dict(type='EMAHook')]
        config.default_hooks.random = dict(type='kddense.RandomStateHook')
        found = PlainConfig.of(config)
        assert found.settings['custom_hooks'] == [dict(type='EMAHook')]
        assert found.settings['default_hooks'] == plain(detector).default_hooks.to_dict()
        assert found.dropped == ('kddense.RandomStateHook',)

    def test_a_type_says_what_takes_its_place(self, detector, monkeypatch):
        """One of somebody else's, registered in kddense, and a constructor that says nothing."""

        class Loader:
            @staticmethod
            def plain(config, place):
                assert place == 'train_dataloader.dataset.pipeline'
                return Plain((dict(type='LoadImageFromFile'), dict(type='Pad', size=config['size'])), 'padded')

        monkeypatch.setitem(TRANSFORMS.module_dict, 'LoadBoth', Loader)
        config = distilled(detector)
        config.train_dataloader.dataset.pipeline[0] = dict(type='kddense.LoadBoth', size=(64, 64))
        config.optim_wrapper.constructor = 'kddense.NobodyKnows'
        found = PlainConfig.of(config)

        steps = found.settings['train_dataloader']['dataset']['pipeline']
        assert steps[:2] == [dict(type='LoadImageFromFile'), dict(type='Pad', size=(64, 64))]
        assert found.dropped[:2] == (
            'kddense.NobodyKnows (the student keeps its own optimiser)',
            'kddense.LoadBoth (LoadImageFromFile, Pad in its place, padded)',
        )
        assert found.settings['optim_wrapper'] == plain(detector).optim_wrapper.to_dict()

    def test_images_for_teachers_are_not_packed(self, detector):
        config = distilled(detector)
        config.model.teacher = dict(sees=dict(config.model.teacher, image='depth_image'), blind=config.model.teacher)
        pack = config.train_dataloader.dataset.pipeline[-1]
        keys = tuple(pack.get('meta_keys') or ('img_shape', 'ori_shape'))
        pack.meta_keys = (*keys, 'depth_image')
        pipeline = PlainConfig.of(config).settings['train_dataloader']['dataset']['pipeline']
        assert pipeline[-1]['meta_keys'] == keys

    @pytest.mark.parametrize(
        'teacher',
        [
            dict(type='kddense.ModuleTeacher', module=dict(type='torchvision.models.resnet18'), checkpoint='a.pth'),
            dict(
                type='kddense.EnsembleTeacher',
                members=[dict(config='a.py', checkpoint='a.pth'), dict(config='b.py', checkpoint='b.pth')],
            ),
        ],
        ids=['module', 'ensemble'],
    )
    def test_teachers_of_every_type_are_gone(self, detector, teacher):
        config = distilled(detector)
        config.model.teacher = config.teacher = teacher
        config.file = 'a.pth'
        assert PlainConfig.of(config).settings == plain_settings(detector)

    def test_variables_for_distilling_are_gone(self, detector):
        config = distilled(detector)
        config.teacher, config.teacher_file = config.model.teacher, config.model.teacher.checkpoint
        config.student = config.model.student
        config.recipe, config.classes = dict(hint=dict(type='kddense.HintObjective')), ('disc', 'square', 'cross')
        found = PlainConfig.of(config).settings
        assert found == dict(plain_settings(detector), classes=('disc', 'square', 'cross'))

    def test_no_model(self):
        with pytest.raises(ValueError, match='the config holds no model'):
            PlainConfig.of(Config(dict(train_cfg=dict())))


class TestCustomImports:
    @pytest.fixture
    def module(self, tmp_path, monkeypatch):
        """Write and import a module, as ``Config.fromfile`` does with those of ``custom_imports``."""
        monkeypatch.syspath_prepend(tmp_path)
        written = []

        def write(name: str, text: str) -> str:
            (tmp_path / f'{name}.py').write_text(textwrap.dedent(text))
            importlib.import_module(name)
            written.append(name)
            return name

        yield write
        for name in written:
            del sys.modules[name]

    def test_what_builds_on_kddense_goes_the_rest_stays(self, detector, module):
        losses = module('toy_losses', 'from kddense.registry import MODELS\nclass ToyLoss: pass')
        blocks = module('toy_blocks', '# not kddense\nclass ToyBlock: pass')
        config = distilled(detector)
        config.custom_imports.imports += [losses, blocks]
        found = PlainConfig.of(config)
        assert found.settings['custom_imports']['imports'] == [blocks]
        assert found.dropped == ('toy_losses (custom_imports)',)
        assert found.needs == ()

    def test_what_the_student_is_made_of_stays(self, detector, module):
        mixed = module('toy_mixed', 'import kddense\nclass ToyResNet: pass')
        config = distilled(detector)
        config.custom_imports.imports.append(mixed)
        config.model.student.backbone.type = 'ToyResNet'
        found = PlainConfig.of(config)
        assert found.settings['custom_imports']['imports'] == ['kddense', mixed]
        assert found.needs == ('toy_mixed in custom_imports',)
