"""The torch network is the published one, and the exported file computes the same."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from megc_stream.errors import MissingExtraError
from megc_stream.models import OnnxModel

pytestmark = pytest.mark.train
torch = pytest.importorskip("torch", reason="needs torch (extra `train`)")


def _published_weights(file: Path) -> dict[str, torch.Tensor]:
    """Read a Keras weight file (either layout) into the names of MeanNetwork, by layer type and number."""
    h5py = pytest.importorskip("h5py", reason="needs h5py")
    arrays: dict[str, dict[str, np.ndarray]] = {}

    def collect(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            *_, layer, _, part = name.split("/")
            arrays.setdefault(layer, {})[part.removesuffix(":0")] = item[()]

    with h5py.File(file) as stored:
        stored.visititems(collect)

    def numbered(kind: str) -> list[dict[str, np.ndarray]]:
        layers = [layer for layer in arrays if layer.startswith(kind)]
        return [arrays[layer] for layer in sorted(layers, key=lambda layer: int(layer.rpartition("_")[2]))]

    convolutions, norms = numbered("conv2d_"), numbered("batch_normalization_")
    targets = [*(f"streams.{i}.0" for i in range(3)), "spot.convolution", "recog.convolution"]
    weights: dict[str, np.ndarray] = {}
    for target, layer in zip(targets, convolutions, strict=True):
        weights[f"{target}.weight"] = layer["kernel"].transpose(3, 2, 0, 1)
        weights[f"{target}.bias"] = layer["bias"]
    for index, layer in enumerate(norms):
        for ours, theirs in zip(
            ("weight", "bias", "running_mean", "running_var"),
            ("gamma", "beta", "moving_mean", "moving_variance"),
            strict=True,
        ):
            weights[f"streams.{index}.2.{ours}"] = layer[theirs]
        weights[f"streams.{index}.2.num_batches_tracked"] = np.array(0)
    for head in ("spot", "recog"):
        weights[f"{head}.dense.weight"] = arrays[head]["kernel"].T
        weights[f"{head}.dense.bias"] = arrays[head]["bias"]
    return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in weights.items()}


@pytest.mark.parametrize("name", ["SAMMLV_s1", "CASME_sq_s1", "CASME2_s3", "SMIC_HS_s2"])
def test_published_weights_give_published_outputs(shared: Path, name: str) -> None:
    from megc_stream.training.network import MeanNetwork

    weights = _published_weights(shared / "golden" / "mean" / f"{name}.hdf5")
    golden = np.load(shared / "golden" / "mean" / f"{name}.npz")
    network = MeanNetwork(classes=golden["recog"].shape[1])
    network.load_state_dict(weights)
    network.eval()
    with torch.no_grad():
        spot, logits = network(torch.from_numpy(golden["inputs"]))
    np.testing.assert_allclose(spot.numpy(), golden["spot"], atol=1e-5)
    np.testing.assert_allclose(torch.softmax(logits, 1).numpy(), golden["recog"], atol=1e-5)


@pytest.mark.parametrize("classes", [3, 5])
def test_exported_file_computes_the_same(tmp_path: Path, classes: int) -> None:
    from megc_stream.training.export import export_onnx
    from megc_stream.training.network import MeanNetwork

    torch.manual_seed(3)
    network = MeanNetwork(classes)
    for stream in network.streams:
        stream[2].running_mean.uniform_(-0.5, 0.5)
        stream[2].running_var.uniform_(0.5, 2.0)
    file = tmp_path / "mean-test.onnx"
    export_onnx(network, file, {"name": "mean-test", "k_s": "0.1"})

    model = OnnxModel(file)
    assert {"name": "mean-test", "k_s": "0.1"}.items() <= model.metadata.items()
    assert set(model.metadata) == {"name", "k_s", "check_spot", "check_recog"}
    assert list(model.inputs) == ["features"]
    assert list(model.outputs) == ["spot", "recog"]
    network.eval()
    for batch in (1, 7):
        features = np.random.default_rng(batch).random((batch, 42, 42, 3), dtype=np.float32)
        spot, recog = model.run({"features": features})
        with torch.no_grad():
            expected_spot, logits = network(torch.from_numpy(features))
        assert spot.shape == (batch, 1)
        assert recog.shape == (batch, classes)
        np.testing.assert_allclose(spot, expected_spot.numpy(), atol=1e-5)
        np.testing.assert_allclose(recog, torch.softmax(logits, 1).numpy(), atol=1e-5)

    again = tmp_path / "again.onnx"
    export_onnx(network.train(), again, {"name": "mean-test", "k_s": "0.1"})
    assert again.read_bytes() == file.read_bytes()


def test_missing_torch_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "megc_stream.training.network", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"install the extra 'train'"):
        import megc_stream.training.network  # noqa: F401
