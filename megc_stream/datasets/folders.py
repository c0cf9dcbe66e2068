"""What lies under the root of a data set: folders of recordings and spreadsheets, in one walk."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from megc_stream.capture.folder import IMAGE_SUFFIXES, image_size, numbered_images
from megc_stream.capture.source import ASSUMED_FPS
from megc_stream.datasets.findings import Log
from megc_stream.datasets.records import Recording
from megc_stream.datasets.sheets import SHEET_SUFFIXES
from megc_stream.errors import CaptureError, DataError

__all__ = ["Place", "Tree", "holds_images", "natural", "read_recording", "without_copies", "walk"]

_DEPTH = 7


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a recording lies: its names, and its folder of images or video file, not looked into yet.

    ``fps`` is None where neither the data set nor its tables name a rate.
    """

    subject: str
    video: str
    fps: float | None
    path: Path


class Tree(msgspec.Struct, frozen=True, kw_only=True):
    """All recordings and spreadsheets below ``root``, sorted by path."""

    root: Path
    places: tuple[Place, ...]
    sheets: tuple[Path, ...]


def walk(root: Path, place: Callable[[Path], Place | None], log: Log) -> Tree:
    """Look through ``root``; a folder for which ``place`` returns something is a recording and is not entered.

    Folders below ``root`` that cannot be read are noted in ``log``.

    Raises
    ------
    DataError
        ``root`` is no folder or cannot be read.
    """
    if not root.is_dir():
        raise DataError(f"{root}: is not a folder; expected the root of a data set")
    places: list[Place] = []
    sheets: list[Path] = []

    def enter(folder: Path, depth: int) -> None:
        found = place(folder)
        if found is not None:
            places.append(found)
            return
        try:
            with os.scandir(folder) as entries:
                listed = [(entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith((".", "~$"))]
        except OSError as error:
            if depth == 0:
                raise DataError(f"{folder}: cannot be read ({error.strerror}); check its rights") from error
            log.error(log.name(folder), f"cannot be read ({error.strerror}); check its rights")
            return
        for name, is_folder in sorted(listed, key=lambda item: natural(item[0])):
            if not is_folder and name.lower().endswith(SHEET_SUFFIXES):
                sheets.append(folder / name)
            elif is_folder and depth < _DEPTH:
                enter(folder / name, depth + 1)

    enter(root.absolute(), 0)
    return Tree(root=root.absolute(), places=tuple(places), sheets=tuple(sheets))


def without_copies(places: Iterable[Place], log: Log) -> list[Place]:
    """Keep one place of each (subject, video): not a cropped one where there is another, else the first."""
    kept: dict[tuple[str, str], Place] = {}
    passed: dict[str, int] = {}
    for place in places:
        key = (place.subject, place.video)
        other = kept.get(key)
        if other is None:
            kept[key] = place
            continue
        cropped = "crop" in log.name(other.path).lower() and "crop" not in log.name(place.path).lower()
        if cropped:
            kept[key] = place
        where = log.name((other if cropped else place).path.parent)
        passed[where] = passed.get(where, 0) + 1
    for where, count in passed.items():
        log.note(where, f"holds {count} recordings that are elsewhere too; those here are passed over")
    return [kept[key] for key in sorted(kept, key=lambda key: (natural(key[0]), natural(key[1])))]


def read_recording(place: Place, log: Log) -> Recording | None:
    """List the frames of a folder and read the size of the first; None, and an error in ``log``, where it is unusable.

    Of a video file the first frame is decoded, and the others are not counted.
    """
    name = log.name(place.path)
    if place.path.is_file():
        return _read_video(place, name, log)
    try:
        images = numbered_images(place.path)
        size = image_size(place.path / images[0][1])
    except CaptureError as error:
        log.error(name, str(error).removeprefix(f"{place.path}: "))
        return None
    if size is None:
        log.warning(f"{name}/{images[0][1]}", "the first image is damaged and cannot be decoded")
    numbers, files = zip(*images, strict=True)
    if place.fps is None:
        log.warning(name, f"no frame rate is known; {ASSUMED_FPS:g} assumed")
    missing = numbers[-1] - numbers[0] + 1 - len(numbers)
    if missing:
        gap = next(a for a, b in itertools.pairwise(numbers) if b != a + 1)
        log.warning(name, f"{missing} frame numbers of {len(numbers) + missing} are missing, the first after {gap}")
    return Recording(
        subject=place.subject,
        video=place.video,
        fps=place.fps or ASSUMED_FPS,
        path=place.path,
        numbers=numbers,
        files=files,
        width_px=None if size is None else size[0],
        height_px=None if size is None else size[1],
    )


def _read_video(place: Place, name: str, log: Log) -> Recording | None:
    from megc_stream.capture.video import VideoReader

    try:
        reader = VideoReader(str(place.path), name=name, colour=False)
    except CaptureError as error:
        log.error(name, str(error).removeprefix(f"{name}: "))
        return None
    reader.close()
    if place.fps is None and reader.assumed_fps:
        log.warning(name, f"no frame rate is known; {reader.fps:g} assumed")
    return Recording(
        subject=place.subject,
        video=place.video,
        fps=place.fps or reader.fps,
        path=place.path,
        width_px=reader.width,
        height_px=reader.height,
    )


def holds_images(folder: Path) -> bool:
    """Return whether an image lies directly in the folder; looks no further than the first."""
    try:
        with os.scandir(folder) as entries:
            return any(
                entry.name.lower().endswith(IMAGE_SUFFIXES) and not entry.name.startswith(".") for entry in entries
            )
    except OSError:
        return False  # whoever walks through it will say why


def natural(text: str) -> list[tuple[int, str]]:
    """Return a key that sorts "spNO.2" before "spNO.10"."""
    return [(int(part), "") if part.isdecimal() else (-1, part.lower()) for part in re.split(r"(\d+)", text) if part]
