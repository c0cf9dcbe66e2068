"""Networks: ONNX sessions, the models that are shipped, MEAN's tensors."""

from megc_stream.models.mean import MeanInfo, MeanModel, find_mean
from megc_stream.models.session import OnnxModel, model_path, sha256_of, shipped_models

__all__ = ["MeanInfo", "MeanModel", "OnnxModel", "find_mean", "model_path", "sha256_of", "shipped_models"]
