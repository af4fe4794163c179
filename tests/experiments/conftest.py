"""What the tests of experiments share with those of training."""

from tests.training.conftest import config, folder, make_model, whole_config

__all__ = ["config", "folder", "make_model", "whole_config"]
