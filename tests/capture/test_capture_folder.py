from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import simplejpeg
from stamped_media import read_stamp, stamped, write_images

from megc_stream.capture import open_source
from megc_stream.capture.folder import FolderReader
from megc_stream.clock import ManualClock
from megc_stream.errors import CaptureError
from megc_stream.records import Frame, StreamEnd
from megc_stream.settings import CaptureSettings


def read(folder: Path, *, colour: bool = False) -> tuple[list[Frame], StreamEnd]:
    with open_source(str(folder), CaptureSettings(), clock=ManualClock(), colour=colour) as source:
        frames = list(source.frames())
        return frames, source.end


def test_numbers_sort_as_numbers(tmp_path: Path) -> None:
    frames, _ = read(write_images(tmp_path, range(8, 13), "s2_v1_img{}.png"))
    assert [frame.number for frame in frames] == [8, 9, 10, 11, 12]
    assert [read_stamp(frame.image) for frame in frames] == [0, 1, 2, 3, 4]


def test_gaps_are_reported_as_missing(tmp_path: Path) -> None:
    frames, end = read(write_images(tmp_path, [7, 8, 11, 12], "{:03d}.png"))
    assert [(frame.frame, frame.number, frame.dropped) for frame in frames] == [
        (0, 7, {}),
        (1, 8, {}),
        (4, 11, {"missing": 2}),
        (5, 12, {}),
    ]
    assert (end.reason, end.dropped) == ("end", {})


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tif"])
@pytest.mark.parametrize("damage", ["half", "empty", "text"])
def test_a_damaged_image_is_left_out_and_counted(
    tmp_path: Path, suffix: str, damage: str, capfd: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path, range(6), "{}" + suffix)
    for number in (2, 3, 5):
        path = tmp_path / f"{number}{suffix}"
        data = path.read_bytes()
        path.write_bytes({"half": data[: len(data) // 2], "empty": b"", "text": b"no picture\n" * 50}[damage])
    frames, end = read(tmp_path)
    assert [frame.frame for frame in frames] == [0, 1, 4]
    assert [read_stamp(frame.image) for frame in frames] == [0, 1, 4]
    assert [frame.dropped for frame in frames] == [{}, {}, {"damaged": 2}]
    assert (end.frames, end.reason, end.dropped) == (3, "damaged", {"damaged": 1})
    assert end.message == f"{tmp_path}: 3 of 6 images cannot be decoded and were left out, the first is 2{suffix}"
    assert capfd.readouterr().err == ""


def test_a_damaged_first_image_keeps_the_numbering(tmp_path: Path) -> None:
    write_images(tmp_path, range(1, 5), "{}.jpg")
    (tmp_path / "1.jpg").write_bytes(b"")
    frames, _ = read(tmp_path)
    assert [(frame.frame, frame.number, frame.dropped) for frame in frames] == [
        (1, 2, {"damaged": 1}),
        (2, 3, {}),
        (3, 4, {}),
    ]


def test_jpeg_grey_is_that_of_the_library(tmp_path: Path) -> None:
    colour = cv2.merge([stamped(3), stamped(5), stamped(9)])
    cv2.imwrite(str(tmp_path / "1.jpg"), colour)
    expected = simplejpeg.decode_jpeg((tmp_path / "1.jpg").read_bytes(), colorspace="GRAY")[:, :, 0]
    np.testing.assert_array_equal(read(tmp_path)[0][0].image, expected)
    difference = read(tmp_path, colour=True)[0][0].image.astype(int) - cv2.imread(str(tmp_path / "1.jpg"))
    assert np.abs(difference).max() <= 2


def test_the_orientation_in_exif_is_heeded(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "1.jpg"), stamped(7))
    data = (tmp_path / "1.jpg").read_bytes()
    tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"  # orientation 6: turn by 90 deg clockwise
    exif = b"Exif\0\0" + tiff
    header = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    (tmp_path / "1.jpg").write_bytes(data[:2] + header + data[2:])
    image = read(tmp_path)[0][0].image
    assert read_stamp(np.rot90(image)) == 7


def test_sixteen_bit_images_become_eight_bit(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "1.png"), stamped(7).astype(np.uint16) * 257)
    np.testing.assert_array_equal(read(tmp_path)[0][0].image, stamped(7))


def test_foreign_and_hidden_files_and_folders_are_passed_over(tmp_path: Path) -> None:
    write_images(tmp_path, range(3), "{}.png")
    for name in ("notes.txt", "Thumbs.db", "._1.png", "labels.csv", "2.json"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "sub").mkdir()
    assert [frame.number for frame in read(tmp_path)[0]] == [0, 1, 2]


@pytest.mark.parametrize("second", ["a01.png", "a1.jpg"])
def test_the_same_number_twice(tmp_path: Path, second: str) -> None:
    write_images(tmp_path, [1], "a{}.png")
    cv2.imwrite(str(tmp_path / second), stamped(1))
    with pytest.raises(CaptureError, match=r"have the same number 1"):
        read(tmp_path)


def test_an_image_without_a_number(tmp_path: Path) -> None:
    write_images(tmp_path, [1], "a{}.png")
    cv2.imwrite(str(tmp_path / "cover.png"), stamped(1))
    with pytest.raises(CaptureError, match=r"cover\.png: has no number"):
        read(tmp_path)


def test_an_image_of_another_size(tmp_path: Path) -> None:
    write_images(tmp_path, range(4), "{}.png")
    cv2.imwrite(str(tmp_path / "2.png"), stamped(2, 200, 130))
    source = open_source(str(tmp_path), CaptureSettings(), clock=ManualClock())
    iterator = source.frames()
    assert [next(iterator).frame, next(iterator).frame] == [0, 1]
    with pytest.raises(CaptureError, match=r"2\.png: is 200x130 px, the images before it are 162x124"):
        next(iterator)
    assert (source.end.frames, source.end.reason) == (2, "damaged")
    assert "200x130" in source.end.message


@pytest.mark.parametrize("names", [(), ("notes.txt", "table.csv")])
def test_a_folder_without_images(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        (tmp_path / name).write_text("x")
    with pytest.raises(CaptureError, match=rf"no images \({len(names)} other files\)"):
        read(tmp_path)


def test_a_folder_of_damaged_images_only(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_text("x")
    with pytest.raises(CaptureError, match="none of its 1 images can be decoded"):
        read(tmp_path)


def test_a_folder_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(CaptureError, match=r"cannot be read .*Permission denied"):
        read(tmp_path)


def test_opening_looks_at_one_image_and_at_no_file_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(2000):
        (tmp_path / f"{number}.png").touch()
    cv2.imwrite(str(tmp_path / "0.png"), stamped(0))
    read_files: list[str] = []
    original = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read_files.append(path.name) or original(path))
    monkeypatch.setattr(Path, "stat", lambda path, **_: pytest.fail("a file's state was asked for"))
    reader = FolderReader(tmp_path)
    assert read_files == ["0.png"]
    assert reader.frames == 2000


def test_the_assumed_rate_is_said(tmp_path: Path) -> None:
    write_images(tmp_path, range(2), "{}.png")
    with open_source(str(tmp_path), CaptureSettings(), clock=ManualClock()) as source:
        assert (source.assumed_fps, source.info.fps) == (True, 30.0)
        assert source.info.description.endswith("rate assumed")
    with open_source(str(tmp_path), CaptureSettings(fps=200), clock=ManualClock()) as source:
        assert (source.assumed_fps, source.info.fps) == (False, 200.0)
        assert "assumed" not in source.info.description
