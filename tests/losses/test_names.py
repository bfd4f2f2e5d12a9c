"""Registered names: buildable from a config, and nobody else's."""

import kddense.connectors
import kddense.losses
from kddense.registry import MODELS

OURS = {
    'BoundedRegressionLoss',
    'BoxImitationLoss',
    'ConvConnector',
    'HintLoss',
    'HintonLoss',
    'LinearConnector',
    'WeightedSoftTargetLoss',
}


def test_every_loss_is_registered_and_built_with_its_scope():
    assert set(MODELS.module_dict) >= OURS
    loss = MODELS.build({'type': 'kddense.HintonLoss', 'temperature': 2.0})
    assert isinstance(loss, kddense.losses.HintonLoss)
    assert isinstance(MODELS.get('kddense.ConvConnector')(2, 3), kddense.connectors.ConvConnector)


def test_everything_exported_exists():
    assert all(callable(getattr(kddense.losses, name)) for name in kddense.losses.__all__)


def test_no_name_is_taken_by_mmcv_mmdet_or_mmseg():
    import mmdet.registry
    import mmdet.utils
    import mmengine.registry
    import mmseg.registry
    import mmseg.utils

    # mmcv registers at mmengine's root, and both of the others import it
    mmdet.utils.register_all_modules(init_default_scope=False)
    mmseg.utils.register_all_modules(init_default_scope=False)
    theirs = {
        'mmcv and mmengine': mmengine.registry.MODELS.module_dict,
        'mmdet': mmdet.registry.MODELS.module_dict,
        'mmseg': mmseg.registry.MODELS.module_dict,
    }
    assert 'Conv2d' in theirs['mmcv and mmengine']
    assert 'FasterRCNN' in theirs['mmdet']
    assert 'EncoderDecoder' in theirs['mmseg']
    taken = {owner: sorted(set(MODELS.module_dict) & set(names)) for owner, names in theirs.items()}
    assert not any(taken.values()), taken
