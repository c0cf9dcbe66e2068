from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from megc_stream.errors import WireError
from megc_stream.packing import Unpacker, pack
from megc_stream.records import Crop, Record, StreamInfo

_unpack = Unpacker[Record](Record)


@given(
    hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)),
    hnp.arrays(np.float32, (68, 2), elements=st.floats(-1e3, 1e3, width=32)),
    st.floats(allow_nan=False),
)
def test_records_come_back_as_they_were(image: np.ndarray, landmarks: np.ndarray, t_s: float) -> None:
    crop = Crop(
        source="é", frame=3, number=7, t_capture_s=t_s, segment=1, image=image, landmarks68=landmarks, flags=("blink",)
    )
    back = _unpack(pack(crop))
    assert isinstance(back, Crop)
    assert back.image is not None
    assert back.landmarks68 is not None
    assert np.array_equal(back.image, image)
    assert back.image.dtype == np.uint8
    assert np.array_equal(back.landmarks68, landmarks)
    assert (back.source, back.frame, back.t_capture_s, back.flags) == ("é", 3, t_s, ("blink",))
    assert back.similarity is None


def test_views_that_are_not_contiguous_are_packed_by_value() -> None:
    image = np.arange(64, dtype=np.uint8).reshape(8, 8)[::2, ::2]
    back = _unpack(pack(Crop(source="", frame=0, number=0, t_capture_s=0, segment=0, image=image)))
    assert isinstance(back, Crop)
    assert np.array_equal(back.image, image)  # type: ignore[arg-type]


@given(st.data())
def test_damaged_messages_are_errors_and_nothing_else(data: st.DataObject) -> None:
    packed = bytearray(
        pack(Crop(source="a", frame=0, number=0, t_capture_s=0, segment=0, image=np.zeros((4, 4), np.uint8)))
    )
    for _ in range(data.draw(st.integers(1, 4))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    try:
        _unpack(bytes(packed))
    except WireError as error:
        assert "cannot be understood" in str(error)


def test_foreign_objects_and_dtypes_are_refused() -> None:
    with pytest.raises(NotImplementedError):
        pack({"image": np.zeros(3, np.complex128)})
    with pytest.raises(WireError):
        _unpack(pack({"record": "crop", "image": ["object", [1], b"x"]}))
    with pytest.raises(WireError):
        _unpack(b"")


@pytest.mark.parametrize(
    "image",
    [
        ["float32", [1], b"0000"],
        ["uint8", [2**63, 0], b""],
        ["uint8", [2**64 - 1, 0], b""],
        ["uint8", [0] * 100, b""],
        ["uint8", [-1], b"0"],
        ["uint8", [2], b"0"],
        ["uint8", [0, 2**63 - 1, 2**63 - 1], b""],
        [[[[]]]],
    ],
)
def test_impossible_arrays_are_refused(image: list[object]) -> None:
    crop = {"record": "crop", "source": "", "frame": 0, "number": 0, "t_capture_s": 0, "segment": 0, "image": image}
    with pytest.raises(WireError, match="cannot be understood"):
        _unpack(pack(crop))


def test_messages_that_are_nested_too_deeply_are_refused() -> None:
    with pytest.raises(WireError, match="cannot be understood"):
        _unpack(b"\x82\xa6record\xa4crop\xa1x" + b"\x91" * 100_000)


def test_arrays_without_a_stated_dtype_may_have_any() -> None:
    for kind in (np.ndarray, NDArray[Any], NDArray[np.floating]):
        assert np.array_equal(Unpacker[Any](kind)(pack(np.ones(3))), np.ones(3))


def test_equal_records_are_equal() -> None:
    info = StreamInfo(source="a", subject="b", video="c", fps=30, width=1, height=2)
    assert _unpack(pack(info)) == info
