from __future__ import annotations

import cv2
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from megc_stream.benchmarking import flow_sequences
from megc_stream.benchmarking.flow_measures import moving
from megc_stream.benchmarking.flow_sequences import CASES, FPS, Case, FlowSequence, K, Pair, make_pair
from megc_stream.benchmarking.textures import TEXTURE_PX, default_texture, make_texture

TEXTURE = make_texture("generated")
GEOMETRIC = ("local", "shift", "sway", "rotation", "clean")


def _residual(pair: Pair) -> float:
    """Root mean square of reference(x) - current(x + flow(x)), grey values, without the border."""
    rows, columns = np.mgrid[: len(pair.flow), : len(pair.flow)]
    places = [rows + pair.flow[..., 1], columns + pair.flow[..., 0]]
    warped = map_coordinates(pair.current.astype(float), places, order=3, mode="mirror")
    return float(np.sqrt(np.mean((warped - pair.reference)[5:-5, 5:-5] ** 2)))


@pytest.fixture
def noise_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw no noise, whatever the view asks for: only the rounding to uint8 is left."""
    picture = flow_sequences._Scene.picture

    def silent(scene: flow_sequences._Scene, view: flow_sequences._View, rng: np.random.Generator) -> np.ndarray:
        return picture(scene, flow_sequences._View(**{**view.__dict__, "noise_sigma": 0.0}), rng)

    monkeypatch.setattr(flow_sequences._Scene, "picture", silent)


@pytest.mark.usefixtures("noise_free")
@pytest.mark.parametrize("size", [128, 256])
@pytest.mark.parametrize("case", GEOMETRIC)
def test_the_true_flow_takes_one_picture_to_the_other(case: Case, size: int) -> None:
    pair = make_pair(case, TEXTURE, size, seed=1)
    # Rounding both pictures gives 0.4; sampling the coarse picture once more gives the rest.
    assert _residual(pair) < (1.0 if size == 128 else 0.7)
    for wrong_px in (0.1, -0.1):
        wrong = Pair(pair.reference, pair.current, pair.flow + np.float32(wrong_px), pair.local_px)
        assert _residual(wrong) > 1.05 * _residual(pair)


@pytest.mark.usefixtures("noise_free")
def test_the_true_flow_of_a_sequence_takes_one_picture_to_the_other() -> None:
    sequence = FlowSequence(TEXTURE, 128, seed=2, pairs=40)
    assert max(_residual(sequence.pair(index)) for index in range(0, 40, 8)) < 1.0


@pytest.mark.parametrize("case", CASES)
def test_the_same_seed_makes_the_same_pair_and_another_seed_another(case: Case) -> None:
    first, again, other = (make_pair(case, TEXTURE, 64, seed) for seed in (3, 3, 4))
    for name in ("reference", "current", "flow", "local_px"):
        assert getattr(first, name).tobytes() == getattr(again, name).tobytes()
    assert not np.array_equal(first.flow, other.flow)
    assert not np.array_equal(first.reference, other.reference)


@pytest.mark.parametrize("case", CASES)
def test_shapes_types_and_size_of_the_motion(case: Case) -> None:
    pair = make_pair(case, TEXTURE, 96, seed=5)
    assert pair.reference.shape == pair.current.shape == pair.local_px.shape == (96, 96)
    assert pair.reference.dtype == pair.current.dtype == np.uint8
    assert pair.flow.shape == (96, 96, 2)
    assert pair.flow.dtype == pair.local_px.dtype == np.float32
    assert np.abs(pair.local_px).max() <= 4.1  # two motions of up to 2 px may overlap
    if case == "shift":
        assert np.ptp(pair.flow, axis=(0, 1)).max() < 1e-4
        assert 0.3 <= np.hypot(*pair.flow[0, 0]) <= 2.0
        assert not moving(pair.local_px).any()
    if case not in ("shift", "sway", "rotation"):
        assert np.allclose(np.linalg.norm(pair.flow, axis=-1), pair.local_px, atol=1e-4)


def test_noise_light_and_blur_are_where_they_belong() -> None:
    pairs = {case: make_pair(case, TEXTURE, 128, seed=6) for case in CASES}
    assert _residual(pairs["clean"]) < 1.0 < 1.5 < _residual(pairs["local"]) < 3
    assert _residual(pairs["noise"]) > 1.5 * _residual(pairs["local"])
    assert _residual(pairs["illumination"]) > 1.2 * _residual(pairs["local"])
    sharpness = {case: cv2.Laplacian(pair.current, cv2.CV_64F).var() for case, pair in pairs.items()}
    assert sharpness["blur"] < 0.8 * cv2.Laplacian(pairs["blur"].reference, cv2.CV_64F).var()
    assert sharpness["local"] > 0.8 * cv2.Laplacian(pairs["local"].reference, cv2.CV_64F).var()


def test_a_sequence_is_what_it_says() -> None:
    sequence = FlowSequence(TEXTURE, 64, seed=7, pairs=120)
    assert (FPS, K) == (200.0, 20)
    pairs = [sequence.pair(index) for index in range(120)]
    sway = [np.linalg.norm(pair.flow[0, 0]) for pair in pairs]  # the corner is far from the expression
    assert 1.0 <= max(sway) <= 2.0 + 0.05
    largest = [pair.local_px.max() for pair in pairs]
    assert 0.2 < max(largest) <= 2.1
    assert min(largest) < 0.1
    # Frame i + k of one pair is frame i of the pair k later; every frame has noise of its own.
    assert np.array_equal(pairs[0].current, pairs[K].reference)
    assert not np.array_equal(pairs[0].reference, pairs[1].reference)
    again = FlowSequence(TEXTURE, 64, seed=7, pairs=120)
    assert np.array_equal(again.pair(60).reference, pairs[60].reference)


def test_the_generated_face_has_the_contrast_of_a_portrait() -> None:
    pytest.importorskip("skimage", reason="needs scikit-image (extra demo)")
    assert default_texture() == "portrait"

    def gradients(texture: np.ndarray) -> np.ndarray:
        small = cv2.resize(texture, (128, 128), interpolation=cv2.INTER_AREA)
        sizes = np.hypot(np.gradient(small, axis=1), np.gradient(small, axis=0))
        return np.array([*np.percentile(sizes, (25, 50, 75, 90)), small.std(), small.mean()])

    portrait = make_texture("portrait")
    assert portrait.shape == TEXTURE.shape == (TEXTURE_PX, TEXTURE_PX)
    assert np.allclose(gradients(TEXTURE) / gradients(portrait), 1.0, atol=0.35)


def test_textures_depend_on_the_seed_alone() -> None:
    assert np.array_equal(make_texture("generated"), TEXTURE)
    assert not np.array_equal(make_texture("generated", seed=1), TEXTURE)
