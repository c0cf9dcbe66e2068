"""A region of a JPEG is what libjpeg-turbo makes of it, or is left to it."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import simplejpeg
from numpy.typing import NDArray
from stamped_media import read_stamp, stamped, write_video

from megc_stream.capture import jpeg as jpeg_module
from megc_stream.capture import open_source
from megc_stream.capture.jpeg import RegionDecoder, Whole, decode_region, load_kernels
from megc_stream.clock import ManualClock
from megc_stream.records import Frame, Region, StreamEnd
from megc_stream.settings import CaptureSettings

SAMPLINGS = {"4:4:4": 0x111111, "4:2:2": 0x211111, "4:4:0": 0x121111, "4:2:0": 0x221111, "4:1:1": 0x411111}
KINDS = ["noise", "waves", "black and white", "even"]


def picture(kind: str, width: int, height: int, random: np.random.Generator) -> NDArray[np.uint8]:
    """Return a BGR picture."""
    y, x = np.mgrid[:height, :width]
    values: NDArray[np.floating | np.integer]
    if kind == "noise":
        values = random.integers(0, 256, (height, width, 3))
    elif kind == "waves":
        waves = np.stack([np.sin(x / 7 + y / 11), np.cos(x / 13), np.sin(x * y / 500)], axis=-1)
        values = 128 + 100 * waves + random.normal(0, 4, (height, width, 3))
    elif kind == "black and white":
        values = np.where(random.random((height, width, 1)) < 0.5, 0, 255) * np.ones(3)
    else:
        values = np.full((height, width, 3), random.integers(0, 256))
    return np.clip(values, 0, 255).astype(np.uint8)


def encode(image: NDArray[np.uint8], quality: int = 90, **options: int) -> bytes:
    """Encode with OpenCV; ``options`` are names of its JPEG parameters in lower case."""
    parameters = [cv2.IMWRITE_JPEG_QUALITY, quality]
    for name, value in options.items():
        parameters += [getattr(cv2, f"IMWRITE_JPEG_{name.upper()}"), value]
    fine, data = cv2.imencode(".jpg", image, parameters)
    assert fine
    return data.tobytes()


def reference(data: bytes) -> NDArray[np.uint8] | None:
    """Return what is decoded without this module."""
    try:
        image: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, colorspace="GRAY")[:, :, 0]
    except ValueError:
        return None
    return image


def cut(image: NDArray[np.uint8], region: Region) -> NDArray[np.uint8]:
    x_low, y_low, x_high, y_high = region
    return image[y_low:y_high, x_low:x_high]


def check(data: bytes, region: Region | None) -> None:
    """Compare a region that must be decoded with the reference."""
    expected = reference(data)
    assert expected is not None
    decoded = decode_region(data, region)
    assert decoded is not None
    image, valid = decoded
    height, width = expected.shape
    assert image.shape == expected.shape
    x_low, y_low, x_high, y_high = (0, 0, width, height) if region is None else region
    assert 0 <= valid[0] <= max(x_low, 0) and 0 <= valid[1] <= max(y_low, 0)
    assert min(x_high, width) <= valid[2] <= width and min(y_high, height) <= valid[3] <= height
    np.testing.assert_array_equal(cut(image, valid), cut(expected, valid))


@pytest.mark.parametrize("optimize", [0, 1])
@pytest.mark.parametrize("interval", [0, 1, 5])
@pytest.mark.parametrize("sampling", ["grey", *SAMPLINGS])
def test_every_encoding_gives_the_pixels_of_the_library(sampling: str, interval: int, optimize: int) -> None:
    random = np.random.default_rng(interval)
    for kind in KINDS:
        for quality in (1, 50, 90, 96, 100):
            width, height = (int(n) for n in random.integers(1, 100, 2))
            image = picture(kind, width, height, random)
            options = {"rst_interval": interval, "optimize": optimize}
            if sampling == "grey":
                image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
            else:
                options["sampling_factor"] = SAMPLINGS[sampling]
            data = encode(image, quality, **options)
            check(data, None)
            x, y = int(random.integers(0, width)), int(random.integers(0, height))
            check(data, (x, y, x + int(random.integers(1, 40)), y + int(random.integers(1, 40))))


@pytest.mark.parametrize("sampling", ["grey", "4:2:0"])
def test_regions_at_all_borders(sampling: str) -> None:
    image = picture("waves", 100, 76, np.random.default_rng(0))
    data = (
        encode(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), rst_interval=3)
        if sampling == "grey"
        else encode(image, sampling_factor=SAMPLINGS[sampling])
    )
    for x_low, x_high in ((0, 1), (0, 8), (-9, 100), (17, 41), (95, 100), (99, 300)):
        for y_low, y_high in ((0, 1), (0, 8), (-9, 76), (17, 41), (71, 76), (75, 300)):
            check(data, (x_low, y_low, x_high, y_high))


def test_a_region_beside_the_picture_is_refused() -> None:
    data = encode(stamped(1))
    for region in ((-20, 0, 0, 9), (0, -20, 9, 0), (162, 0, 170, 9), (0, 124, 9, 140), (30, 30, 30, 40)):
        assert decode_region(data, region) is None


def test_pictures_wider_than_a_group_of_blocks() -> None:
    random = np.random.default_rng(1)
    for width, height in ((1030, 40), (24, 1000)):
        data = encode(cv2.cvtColor(picture("waves", width, height, random), cv2.COLOR_BGR2GRAY))
        check(data, None)
        check(data, (width // 3, height // 3, width // 3 + 333, height // 3 + 333))


GREY = encode(stamped(77))
COLOUR = encode(cv2.merge([stamped(3), stamped(5), stamped(9)]))


def replaced(data: bytes, old: bytes, new: bytes) -> bytes:
    assert data.count(old) == 1
    return data.replace(old, new)


@pytest.mark.parametrize(
    "data",
    [
        encode(stamped(1), progressive=1),
        replaced(GREY, b"\xff\xc0", b"\xff\xc1"),
        replaced(GREY, b"\xff\xc0\x00\x0b\x08", b"\xff\xc0\x00\x0b\x0c"),
        replaced(GREY, b"JFIF\0\x01", b"JFIF\0\x02"),
        GREY[:2] + b"\xff\xe1\x00\x0eExif\0\0MM\0\x2a\0\0" + GREY[2:],
        GREY[:2] + b"\xff\xee\x00\x0eAdobe\0\x64\0\0\0\0\0" + GREY[2:],
        GREY[:2] + b"\xff\xff" + GREY[3:],
        GREY[:2] + b"\xff\xdb\x00\x43\x05" + bytes([1]) * 64 + GREY[2:],
        GREY[:2] + b"\xff\xc4\x00\x14\x05" + bytes([1]) + bytes(15) + b"\x00" + GREY[2:],
        GREY[:2] + b"\xff\xc4\x01\x3f\x03" + bytes(14) + bytes([150, 150]) + bytes(300) + GREY[2:],
        replaced(GREY, b"\x00\x3f\x00", b"\x00\x05\x00"),
        replaced(COLOUR, b"\x03\x01\x22\x00\x02\x11\x01\x03\x11\x01", b"\x03R\x22\x00G\x11\x01B\x11\x01"),
        GREY[:-2],
        GREY[:-1],
        GREY[:-2] + b"\xff\xd0\xff\xd9",
        GREY[:-2] + b"\x12\xff\xd9",
        GREY[:-40] + GREY[-2:],
        b"",
        b"\xff\xd8",
        GREY[:160],
        b"no picture" * 50,
    ],
)
def test_other_kinds_and_damage_are_refused_wherever_one_looks(data: bytes) -> None:
    for region in (None, (0, 0, 8, 8), (80, 60, 90, 70)):
        assert decode_region(data, region) is None


def test_a_grey_picture_may_call_its_blocks_anything() -> None:
    check(replaced(GREY, b"\x01\x01\x11\x00", b"\x01\x01\x22\x00"), (30, 20, 90, 70))


def test_a_comment_for_every_picture() -> None:
    for n in range(10):
        check(GREY[:2] + b"\xff\xfe\x00\x07at %02d" % n + GREY[2:], (30, 20, 90, 70))


def test_bytes_after_the_end_are_no_damage() -> None:
    check(GREY + b"appendix", (0, 0, 8, 8))


def damaged(data: bytes, random: np.random.Generator) -> bytes:
    changed = bytearray(data)
    at = int(random.integers(0, len(changed)))
    few = int(random.integers(1, 8))
    how = random.integers(0, 4)
    if how == 0:
        del changed[at:]
    elif how == 1:
        del changed[at : at + few]
    elif how == 2:
        changed[at:at] = random.bytes(few)
    else:
        changed[at] ^= 1 << int(random.integers(0, 8))
    return bytes(changed)


def test_whatever_is_decoded_from_damaged_data_is_what_the_library_makes_of_it() -> None:
    random = np.random.default_rng(2)
    waves = picture("waves", 70, 50, random)
    encoded = [encode(waves, 80), encode(waves, 95, rst_interval=2), encode(cv2.cvtColor(waves, cv2.COLOR_BGR2GRAY))]
    decoded = 0
    for n in range(3000):
        data = damaged(encoded[n % 3], random)
        part = decode_region(data, (20, 10, 40, 30))
        if part is None:
            continue
        decoded += 1
        expected = reference(data)
        assert expected is not None
        np.testing.assert_array_equal(cut(part[0], part[1]), cut(expected, part[1]))
        np.testing.assert_array_equal(Whole(data)(), expected)
    assert decoded > 100


def test_the_whole_is_decoded_once() -> None:
    whole = Whole(GREY)
    np.testing.assert_array_equal(whole(), reference(GREY))
    assert whole() is whole()


def test_nothing_is_decoded_in_part_before_one_looks() -> None:
    decoder = RegionDecoder()
    assert decoder.decode(GREY) is None
    decoder.look_at((0, 0, 40, 40))
    load_kernels().join()
    part = decoder.decode(GREY)
    assert part is not None and part[1] == (0, 0, 40, 40)
    decoder.look_at(None)
    assert decoder.decode(GREY) is None


def test_kernels_that_cannot_be_loaded_leave_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_kernels().join()
    monkeypatch.setattr(jpeg_module, "_loader", functools.cache(jpeg_module._loader.__wrapped__))
    monkeypatch.setitem(sys.modules, "megc_stream.capture.jpeg_kernels", None)
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes(encode(stamped(number)))
    decoder = RegionDecoder()
    decoder.look_at((0, 0, 40, 40))
    load_kernels().join()
    assert decoder.decode(GREY) is None
    frames, end = read(tmp_path, (0, 0, 40, 40), 2)
    assert ([read_stamp(frame.image) for frame in frames], end.reason) == ([0, 1, 2], "end")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Yield a folder of 12 pictures: one missing, one cut off below the middle, one a PNG, one of another kind."""
    load_kernels().join()
    for number in range(12):
        (tmp_path / f"{number}.jpg").write_bytes(encode(stamped(number), optimize=number % 2))
    (tmp_path / "3.jpg").unlink()
    (tmp_path / "5.jpg").write_bytes(encode(stamped(5))[:-300])
    (tmp_path / "7.jpg").unlink()
    cv2.imwrite(str(tmp_path / "7.png"), stamped(7))
    (tmp_path / "8.jpg").write_bytes(encode(stamped(8), progressive=1))
    yield tmp_path


def read(location: Path, region: Region | None, threads: int, *, colour: bool = False) -> tuple[list[Frame], StreamEnd]:
    settings = CaptureSettings(decode_threads=threads)
    with open_source(str(location), settings, clock=ManualClock(), colour=colour) as source:
        source.look_at(region)
        return list(source.frames()), source.end


def same_but_for_the_region(frames: list[Frame], whole: list[Frame]) -> None:
    assert [(f.frame, f.number, f.dropped, f.pts_s) for f in frames] == [
        (f.frame, f.number, f.dropped, f.pts_s) for f in whole
    ]
    for frame, other in zip(frames, whole, strict=True):
        assert other.region is None and other.whole() is other.image
        np.testing.assert_array_equal(frame.whole(), other.image)
        assert frame.image.shape == other.image.shape
        if frame.region is not None:
            np.testing.assert_array_equal(cut(frame.image, frame.region), cut(other.image, frame.region))


@pytest.mark.parametrize("threads", [0, 2])
def test_a_folder_looked_at_in_part_gives_the_same_frames(folder: Path, threads: int) -> None:
    whole, end = read(folder, None, threads)
    assert [frame.dropped for frame in whole if frame.dropped] == [{"missing": 1}, {"damaged": 1}]
    for region in ((0, 0, 96, 40), (50, 30, 90, 60), (-10, -10, 500, 500)):
        frames, part_end = read(folder, region, threads)
        assert part_end == end
        assert [frame.number for frame in frames if frame.region is None] == [7, 8]
        same_but_for_the_region(frames, whole)
    assert [read_stamp(frame.whole()) for frame in frames] == [frame.number for frame in frames]


def test_one_may_look_elsewhere_while_it_is_read(folder: Path) -> None:
    settings = CaptureSettings(decode_threads=0)
    with open_source(str(folder), settings, clock=ManualClock()) as source:
        regions = []
        for frame in source.frames():
            regions.append(frame.region)
            source.look_at({1: (0, 0, 8, 8), 2: (90, 80, 200, 200), 4: None}.get(frame.number))
    assert regions[:5] == [None, None, (0, 0, 8, 8), (88, 80, 162, 124), None]


def test_colour_is_never_decoded_in_part(folder: Path) -> None:
    assert {frame.region for frame in read(folder, (0, 0, 8, 8), 0, colour=True)[0]} == {None}


@pytest.mark.parametrize("turned", [0, 90])
def test_motion_jpeg_looked_at_in_part_gives_the_same_frames(tmp_path: Path, turned: int) -> None:
    load_kernels().join()
    path = write_video(
        tmp_path / ("clip.mov" if turned else "clip.avi"),
        12,
        codec="mjpeg",
        pixel_format="yuvj420p",
        noise=True,
        turned_counterclockwise=turned,
    )
    whole, end = read(path, None, 2)
    frames, part_end = read(path, (30, 20, 70, 60), 2)
    assert part_end == end
    # The first picture was decoded when the video was opened; turned ones are not decoded in part.
    assert [frame.region for frame in frames] == [None] + [None if turned else (16, 16, 80, 64)] * 11
    same_but_for_the_region(frames, whole)


def test_other_videos_are_read_as_ever(tmp_path: Path) -> None:
    frames, _ = read(write_video(tmp_path / "clip.mp4", 5), (0, 0, 8, 8), 2)
    assert [frame.region for frame in frames] == [None] * 5
