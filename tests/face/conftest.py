"""Scenes and clips for the face tests."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray

from megc_stream.records import Frame

Clip = Callable[[str], tuple[float, Iterator[Frame]]]


@pytest.fixture(scope="session")
def alignment() -> ModuleType:
    """The benchmark module: tests hold the same figures against their targets."""
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "alignment.py"
    spec = importlib.util.spec_from_file_location("alignment_benchmark", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def portrait() -> NDArray[np.uint8]:
    """A (512, 512) grey portrait."""
    cv2 = pytest.importorskip("cv2")
    data = pytest.importorskip("skimage.data", reason="needs scikit-image (dependency group `test`)")
    grey: NDArray[np.uint8] = cv2.cvtColor(data.astronaut(), cv2.COLOR_RGB2GRAY)
    return grey


@pytest.fixture(scope="session")
def clip(shared: Path) -> Clip:
    """Return rate and grey, upright frames of one of the public clips."""
    import av

    def read(name: str) -> tuple[float, Iterator[Frame]]:
        path = shared / "faces" / "clips" / name
        with av.open(str(path)) as container:
            rate = float(container.streams.video[0].average_rate or 25)
        return rate, frames(path, rate)

    def frames(path: Path, rate: float) -> Iterator[Frame]:
        with av.open(str(path)) as container:
            for index, picture in enumerate(container.decode(video=0)):
                image = np.rot90(picture.to_ndarray(format="gray"), picture.rotation // 90)
                yield make_frame(index, image, rate)

    return read


def make_frame(index: int, image: NDArray[np.uint8], fps: float) -> Frame:
    return Frame(
        source="test", frame=index, number=index, image=np.ascontiguousarray(image), t_capture_s=100 + index / fps
    )


@pytest.fixture(scope="session")
def frame_of() -> Callable[[int, NDArray[np.uint8], float], Frame]:
    return make_frame
