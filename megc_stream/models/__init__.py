"""Networks: ONNX sessions, the models there are and where they come from, MEAN's tensors and weights."""

from megc_stream.models.fetching import fetch_mean, fetchable, fetched_path, fold_of
from megc_stream.models.importing import (
    DEFAULT_K_PRIME_S,
    PUBLISHED_CLASSES,
    ImportedMean,
    ImportOptions,
    import_mean,
)
from megc_stream.models.keras_weights import read_mean_weights
from megc_stream.models.mean import MeanInfo, MeanModel, find_mean
from megc_stream.models.mean_graph import MeanHead, MeanStream, MeanWeights, build_mean, check_features, mean_reference
from megc_stream.models.registry import (
    ModelEntry,
    PublishedScore,
    card_text,
    entries,
    expected_sha256,
    installed_models,
)
from megc_stream.models.session import OnnxModel, cache_folder, model_path, sha256_of, shipped_models
from megc_stream.models.verifying import ModelCheck, verify_model

__all__ = [
    "DEFAULT_K_PRIME_S",
    "PUBLISHED_CLASSES",
    "ImportOptions",
    "ImportedMean",
    "MeanHead",
    "MeanInfo",
    "MeanModel",
    "MeanStream",
    "MeanWeights",
    "ModelCheck",
    "ModelEntry",
    "OnnxModel",
    "PublishedScore",
    "build_mean",
    "cache_folder",
    "card_text",
    "check_features",
    "entries",
    "expected_sha256",
    "fetch_mean",
    "fetchable",
    "fetched_path",
    "find_mean",
    "fold_of",
    "import_mean",
    "installed_models",
    "mean_reference",
    "model_path",
    "read_mean_weights",
    "sha256_of",
    "shipped_models",
    "verify_model",
]
