"""What a plug-in's parts and models may bring along: their own initialisation, pretrained weights, odd image sizes."""

import copy

import pytest
import torch
from mmengine.model import BaseModel, BaseModule
from mmengine.model.wrappers import MMDistributedDataParallel
from mmengine.optim import build_optim_wrapper
from torch import nn

from kddense import Objective
from kddense.distiller.state import own_state, own_state_in
from kddense.objectives import FeatureObjective
from kddense.registry import MODELS

from ..helpers import plugins, tiny
from ..helpers.two_processes import in_two_processes
from .test_review import Review

STUDENT = tiny.segmentor('pspnet_r50-d8')
DATA = tiny.segmentation_data()
HINT = dict(type='kddense.FeatureObjective', tap='backbone', levels=[-1])
CRD = dict(type='kddense.CRDObjective', dim=8)
MUTUAL = dict(
    type='kddense.MutualObjective',
    peer=dict(STUDENT, _scope_='mmseg'),
    compare=dict(type='kddense.PixelWiseObjective', weight=2.0),
)


def retinanet(**options):
    return tiny.single_stage('retinanet', {'bbox_head.stacked_convs': 2}, **options)


def data_with_ids(*ids):
    data = tiny.segmentation_data(count=len(ids))
    for sample, one in zip(data['data_samples'], ids, strict=True):
        sample.set_metainfo(dict(img_path=one))
    return data


class Part(BaseModule):
    """Says how it begins."""

    def __init__(self):
        super().__init__(init_cfg=dict(type='Constant', layer='Conv2d', val=0.5))
        self.layer = nn.Conv2d(1, 1, 1)


@MODELS.register_module()
class WithPart(Objective):
    student_taps = frozenset({'backbone'})

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.parts = nn.ModuleList([Part()])

    def forward(self, seen, taught):
        return dict(loss=self.parts[0].layer(seen.taps['backbone'][0][:, :1]).mean())


@MODELS.register_module()
class BeginsWithNothing(BaseModule):
    """A connector whose init_cfg begins with zeros."""

    def __init__(self, in_channels, out_channels):
        super().__init__(init_cfg=dict(type='Constant', layer='Conv2d', val=0.0))
        self.layer = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x):
        return self.layer(x)


def test_parts_begin_as_their_init_cfg_says_and_draw_no_number_of_the_student():
    objectives = dict(x=dict(type='kddense.WithPart'), y=dict(HINT, connector=dict(type='kddense.BeginsWithNothing')))
    model = tiny.distiller(STUDENT, STUDENT, objectives, 'mmseg')
    assert float(model.objectives['x'].parts[0].layer.weight) == 0.5
    assert not model.objectives['y'].connectors[0].layer.weight.any()
    model.init_weights()
    assert float(model.objectives['x'].parts[0].layer.weight) == 0.5
    plugins.train(model, DATA, steps=1)
    plugins.assert_contracts(model, STUDENT, 'mmseg')


def test_a_teacher_whose_config_names_weights_begins_with_them(tmp_path):
    source = tiny.build(STUDENT, scope='mmseg', seed=5)
    torch.save(source.backbone.state_dict(), tmp_path / 'backbone.pth')
    pretrained = dict(type='Pretrained', checkpoint=str(tmp_path / 'backbone.pth'))
    teacher = tiny.edit(STUDENT, {'backbone.init_cfg': pretrained})
    config = dict(type='kddense.Distiller', student=STUDENT, teacher=tiny.teacher_of(teacher, 'mmseg'), objectives={})
    model = tiny.build(config, scope='mmseg')
    taught = model.teachers['teacher'].model.backbone.state_dict()
    assert all(torch.equal(value, taught[key]) for key, value in source.backbone.state_dict().items())


@MODELS.register_module()
class PicksAtLargeImages(BaseModel):
    """A backbone that a tiny blank image is too small for: it pools over 20 cells, or normalises single values."""

    def __init__(self, what, data_preprocessor=None):
        super().__init__(data_preprocessor)
        layers = dict(pool=nn.AvgPool2d(20, padding=0), norm=nn.InstanceNorm2d(8))
        strides = dict(pool=4, norm=64)
        self.backbone = nn.Sequential(nn.Conv2d(3, 8, 3, strides[what], 1), layers[what])
        self.backbone.train()

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return self.backbone(inputs)


@pytest.mark.parametrize('what', ['pool', 'norm'])
def test_a_model_that_fails_on_a_tiny_image_is_probed_with_a_larger_one(what):
    teacher = dict(type='kddense.ModuleTeacher', module=dict(type='kddense.PicksAtLargeImages', what=what))
    hint = dict(HINT, teacher_tap='', teacher_levels=[0])
    model = tiny.build(
        dict(type='kddense.Distiller', student=STUDENT, teacher=teacher, objectives=dict(x=hint)), scope='mmseg'
    )
    data = tiny.segmentation_data(size=(256, 256))
    assert 'backbone.layer1.0.conv1.weight' in plugins.gradients(model, data)


def test_a_part_of_each_plug_in_is_found_in_the_checkpoint():
    model = tiny.distiller(STUDENT, STUDENT, dict(peer=MUTUAL, crd=dict(CRD, size=4)), 'mmseg')
    own = own_state_in(model.state_dict())
    assert own.keys() == own_state(model).keys()
    assert {'peer.peer.model.backbone.stem.0.weight', 'crd.banks.0.vectors', 'crd.banks.1.ids'} <= {
        key.removeprefix('objectives.') for key in own
    }


def train_in_this_process(rank):
    """Train several plug-ins for three steps each under DDP; returns what has to be the same in both processes."""
    detection, narrow = tiny.detection_data(), retinanet()
    wide = dict(width=16, fpn=32)
    review = dict(type=FeatureObjective, tap='backbone', connector=dict(type=Review))
    jobs = {
        'crd': (STUDENT, STUDENT, dict(CRD, size=8), data_with_ids(f'{rank}.png', 'both.png'), 'mmseg'),
        'mutual': (STUDENT, STUDENT, MUTUAL, DATA, 'mmseg'),
        'cross': (narrow, retinanet(width=16), dict(type='kddense.CrossKDObjective'), detection, 'mmdet'),
        'fgd': (narrow, retinanet(**wide), dict(type='kddense.FGDObjective'), detection, 'mmdet'),
        'mgd': (narrow, retinanet(**wide), dict(type='kddense.MGDObjective'), detection, 'mmdet'),
        'review': (narrow, retinanet(width=16), review, detection, 'mmdet'),
        'waiting': (STUDENT, STUDENT, dict(HINT, connector={}, weight=dict(value=1.0, start=9)), DATA, 'mmseg'),
    }
    found = {}
    for name, (student, teacher, objective, data, scope) in jobs.items():
        model = tiny.distiller(student, teacher, dict(x=objective), scope)
        parallel = MMDistributedDataParallel(model, find_unused_parameters=False, broadcast_buffers=False).train()
        optimizer = build_optim_wrapper(parallel, dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.001)))
        for number in range(3):  # DDP complains of unused parameters from the second step on
            plugins.at_iteration(number)
            parallel.train_step(copy.deepcopy(data), optimizer)
        weights = [one.detach().double().sum() for one in model.parameters()]
        found[name] = torch.stack(weights)
        if name == 'crd':
            for number, bank in enumerate(model.objectives['x'].banks):
                found[f'bank {number}'], found[f'ids {number}'] = bank.vectors, bank.ids
    return found


@pytest.mark.skipif(torch.cuda.is_available(), reason='a process that has used a GPU cannot be forked')
def test_two_processes_need_no_search_for_unused_parameters(tmp_path):
    first, second = in_two_processes(train_in_this_process, tmp_path)
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert torch.equal(value, second[key]), key
    assert len(first['ids 0']) == 3, "both processes' images are in the bank"
