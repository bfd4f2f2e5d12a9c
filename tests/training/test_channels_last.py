"""Channels-last training: another memory format, the same training."""

import torch
from mmengine.config import Config

from kddense import ChannelsLastHook


class Runner:
    cfg = Config()

    def __init__(self, model):
        self.model = model


def test_weights_change_their_format_and_not_their_values():
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    image = torch.randn(1, 3, 8, 8)
    expected = model(image)

    ChannelsLastHook().before_run(Runner(model))

    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)
    for key, value in model.state_dict().items():
        assert key.endswith(('running_mean', 'running_var', 'tracked')) or torch.equal(value, before[key])
    assert model[0](image).is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(model(image), expected)


def test_a_config_names_it():
    from kddense.registry import HOOKS

    assert isinstance(HOOKS.build(Config(dict(it=dict(type='kddense.ChannelsLastHook'))).it), ChannelsLastHook)
