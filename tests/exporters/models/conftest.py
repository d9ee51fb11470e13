"""What the networks' tests share."""

from __future__ import annotations

import logging
import warnings

import pytest


@pytest.fixture
def quiet():
    """Hold back what PyTorch's exporters print, log and warn of."""
    logging.disable(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)
