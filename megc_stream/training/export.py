"""A trained network as an ONNX file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from megc_stream.models import MeanHead, MeanStream, MeanWeights, build_mean
from megc_stream.training.pairs import K_S

if TYPE_CHECKING:
    from megc_stream.training.network import MeanNetwork

__all__ = ["export_onnx", "mean_metadata", "weights_of"]

_FORMAT_VERSION = 1


def mean_metadata(
    name: str, classes: Sequence[str], k_prime_s: float, *, trained_on: str, licence: str, seed: int
) -> dict[str, str]:
    """Return the strings that a trained file carries, in the order in which they are stored."""
    return {
        "name": name,
        "format_version": str(_FORMAT_VERSION),
        "classes": json.dumps(classes, ensure_ascii=False),
        "k_s": f"{K_S:g}",
        "k_prime_s": f"{k_prime_s:.6g}",
        "trained_on": trained_on,
        "licence": licence,
        "seed": str(seed),
    }


def weights_of(network: MeanNetwork) -> MeanWeights:
    """Return the weights of a torch network as arrays; batch normalisation has its running statistics."""
    return MeanWeights(
        tuple(  # type: ignore[arg-type]
            MeanStream(
                kernel=_array(stream[0].weight),
                bias=_array(stream[0].bias),
                gamma=_array(stream[2].weight),
                beta=_array(stream[2].bias),
                mean=_array(stream[2].running_mean),
                variance=_array(stream[2].running_var),
            )
            for stream in network.streams
        ),
        *(
            MeanHead(
                _array(head.convolution.weight),
                _array(head.convolution.bias),
                _array(head.dense.weight),
                _array(head.dense.bias),
            )
            for head in (network.spot, network.recog)
        ),
    )


def export_onnx(network: MeanNetwork, out: Path, metadata: Mapping[str, str]) -> None:
    """Write ``network`` as ONNX; see :func:`megc_stream.models.build_mean`.

    Parameters
    ----------
    network
        The network, in any mode: dropout is left out and batch normalisation takes the running statistics.
    out
        The .onnx file to write; its folder exists.
    metadata
        Strings stored in the file (``name``, ``classes``, ``k_s``, ...), in the order given.
    """
    out.write_bytes(build_mean([weights_of(network)], metadata))


def _array(value: Any) -> NDArray[np.float32]:
    return np.ascontiguousarray(value.detach().cpu().numpy(), np.float32)
