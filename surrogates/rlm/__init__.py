"""The regression language model."""

from surrogates.rlm.calibration import CalibrationConfig
from surrogates.rlm.config import DecodingConfig, ModelConfig, ReadingConfig, TrainingConfig
from surrogates.rlm.rlm import RLM

__all__ = ["RLM", "CalibrationConfig", "DecodingConfig", "ModelConfig", "ReadingConfig", "TrainingConfig"]
