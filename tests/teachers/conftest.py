"""What tests of teachers share."""

import logging

import pytest
from mmengine.logging import MMLogger


@pytest.fixture
def told():
    """What the log says."""
    lines = []

    class Keeps(logging.Handler):
        def emit(self, record):
            lines.append(record.getMessage())

    logger = MMLogger.get_instance('told', logger_name='told')
    handler = Keeps()
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)
