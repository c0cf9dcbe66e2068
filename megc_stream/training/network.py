"""MEAN in torch: the network that spots (regression) and names (classification) a pair of crops.

Importing this module imports torch and raises :class:`~megc_stream.errors.MissingExtraError` where it is absent; the
other modules of the package therefore import it inside functions.
"""

from __future__ import annotations

from typing import Any

from megc_stream.errors import MissingExtraError

try:
    import torch
    from torch import nn
except ImportError as _error:
    raise MissingExtraError("torch", "train", "training a network") from _error

__all__ = ["MeanNetwork"]

# Filters of the streams u, v and strain; kernel and units per head: the published weight files.
_STREAM_FILTERS = (3, 3, 8)
_HEAD_FILTERS = 8
_HEAD_UNITS = 7 * 7 * _HEAD_FILTERS


class _Head(nn.Module):
    """Convolution 5x5 "same" with 8 filters + ReLU, max pool 2, flatten with channels last, dropout, dense."""

    def __init__(self, outputs: int, dropout: float) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(sum(_STREAM_FILTERS), _HEAD_FILTERS, 5, padding=2)
        self.dropout = nn.Dropout(dropout)
        self.dense = nn.Linear(_HEAD_UNITS, outputs)

    def forward(self, trunk: Any) -> Any:
        """Map (B, 14, 14, 14) to (B, outputs), without activation at the end."""
        pooled = nn.functional.max_pool2d(torch.relu(self.convolution(trunk)), 2)
        return self.dense(self.dropout(pooled.permute(0, 2, 3, 1).flatten(1)))


class MeanNetwork(nn.Module):
    """MEAN, the network of Liong, See and Chan (2023, "Spot-then-Recognize"): three shallow streams, two heads.

    Per channel (u, v, strain) of a (42, 42, 3) feature array: convolution 5x5 "same" with 3, 3, 8 filters + ReLU, batch
    normalisation (epsilon 1e-3), max pool 3, dropout. The 14 maps of 14x14 are concatenated and feed the heads ``spot``
    (1 linear unit) and ``recog`` (one unit per class). Layer sizes and initial values (Glorot uniform, zero biases) are
    those of the published weight files, which also name dropout rates of .3 and .2; with as many clips as can be
    rendered .1 does better on new persons.

    Parameters
    ----------
    classes
        Number of emotion classes.
    stream_dropout, head_dropout
        Dropout after the streams and before the dense layers, in [0, 1).
    """

    def __init__(self, classes: int = 3, stream_dropout: float = 0.1, head_dropout: float = 0.1) -> None:
        super().__init__()
        self.streams = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(1, filters, 5, padding=2),
                nn.ReLU(),
                nn.BatchNorm2d(filters, eps=1e-3),
                nn.MaxPool2d(3),
                nn.Dropout(stream_dropout),
            )
            for filters in _STREAM_FILTERS
        )
        self.spot = _Head(1, head_dropout)
        self.recog = _Head(classes, head_dropout)
        for layer in self.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def trunk(self, features: Any) -> Any:
        """Map features (B, 42, 42, 3) float32 in [0, 1] to the shared maps (B, 14, 14, 14), channels first."""
        channels = features.permute(0, 3, 1, 2).split(1, dim=1)
        return torch.cat([stream(channel) for stream, channel in zip(self.streams, channels, strict=True)], dim=1)

    def forward(self, features: Any) -> tuple[Any, Any]:
        """Return the spotting score (B, 1) and the class logits (B, classes) of features (B, 42, 42, 3) in [0, 1].

        The probabilities are the softmax of the logits; the exported model gives those.
        """
        trunk = self.trunk(features)
        return self.spot(trunk), self.recog(trunk)
