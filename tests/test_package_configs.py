"""Reading configs: teachers that begin with random weights."""

import pytest
from mmengine.config import Config

from kddense.pretrained import untrained

RESNET = dict(type='ResNet', init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50'))


@pytest.mark.parametrize(
    'teacher',
    [
        dict(checkpoint='a.pth'),
        dict(a=dict(checkpoint='a.pth'), b=dict(checkpoint='b.pth')),
        dict(type='kddense.EnsembleTeacher', members=[dict(checkpoint='a.pth'), dict(checkpoint='b.pth')]),
        dict(config=dict(model=dict(backbone=RESNET)), checkpoint='a.pth'),
        dict(config='mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py', checkpoint='a.pth'),
    ],
    ids=['one', 'several', 'an ensemble', 'a backbone with weights', 'the config of a package'],
)
def test_teachers_need_no_checkpoint(teacher):
    before = str(teacher)
    found = str(untrained(teacher))

    assert '.pth' not in found
    assert 'torchvision' not in found
    assert str(teacher) == before


def test_an_average_of_the_student_takes_no_checkpoint():
    assert untrained(dict(type='kddense.AverageTeacher', config=dict(model=dict(type='A')))).keys() == {
        'type',
        'config',
    }


def test_an_ensemble_has_no_checkpoint_of_its_own():
    assert untrained(dict(type='kddense.EnsembleTeacher', members=[])) == dict(
        type='kddense.EnsembleTeacher', members=[]
    )


def test_an_untrained_teacher_of_a_file_is_text_that_can_be_read_again(tmp_path):
    Config(dict(model=dict(type='Net', backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='far.pth'))))).dump(
        tmp_path / 'teacher.py'
    )

    config = Config(dict(model=dict(teacher=untrained(dict(config=str(tmp_path / 'teacher.py'), checkpoint='t.pth')))))

    assert 'far.pth' not in config.pretty_text
    assert config.model.teacher.config.model.backbone == dict(init_cfg=None)


def test_an_untrained_teacher_of_a_package_is_read_by_attributes():
    """As mmdet's detectors read their train_cfg."""
    teacher = untrained(dict(config='mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py', checkpoint='a.pth'))

    assert teacher['config'].model.train_cfg.rpn.sampler.num == 256
