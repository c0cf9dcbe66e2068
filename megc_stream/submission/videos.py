"""The test videos of the challenge, and lists of videos that replace them."""

from __future__ import annotations

from pathlib import Path

import msgspec

from megc_stream.errors import DataError
from megc_stream.evaluation.tables import read_csv, read_text, shown, whole_number

__all__ = ["KNOWN", "VideoList", "list_of", "read_videos"]


class VideoList(msgspec.Struct, frozen=True, kw_only=True):
    """Videos of a data set in order; ``frames`` has the first and last frame number of those where they are known."""

    name: str
    videos: tuple[str, ...]
    frames: dict[str, tuple[int, int]] = {}


_SAMM = "001_2 001_3 002_1 002_4 003_1 003_7 004_3 004_6 005_2 005_7"
_CAS = (
    "dzw_a1 dzw_d1 dzw_f3 dzw_h3 dzw_s3 gcf_a1 gcf_d1 gcf_f2 gcf_h3 gcf_s4 "
    "smy_a1 smy_d1 smy_f2 smy_h3 smy_s3 wy_a2 wy_f1 wy_f4 wy_h1 wy_s1"
)

KNOWN = {
    "samm": VideoList(name="samm", videos=tuple(_SAMM.split())),
    "cas": VideoList(name="cas", videos=tuple(_CAS.split())),
}
"""The unseen test set since MEGC2023: 10 videos of SAMM Challenge, 20 of CAS(ME)3."""


def list_of(videos: set[str]) -> VideoList | None:
    """Return the known list that all these videos are of; None if there is none, or no video."""
    return next((known for known in KNOWN.values() if videos and videos <= set(known.videos)), None)


def read_videos(path: Path) -> VideoList:
    """Read a list of videos: one name a line, or a CSV table with the column ``video``.

    The table may have ``first`` and ``last`` (frame numbers), or ``frames`` (their count, numbered from 0 or 1).

    Raises
    ------
    DataError
        The file cannot be read, is malformed, names no video or one twice.
    """
    lines = read_text(path, "a list of videos").splitlines()
    if lines and "video" in lines[0].split(","):
        rows = read_csv(path, ("video",), "videos")
    else:
        rows = [(row, {"video": line.strip()}) for row, line in enumerate(lines, start=1) if line.strip()]
    frames: dict[str, tuple[int, int]] = {}
    videos: list[str] = []
    for row, cells in rows:
        video = cells["video"]
        if not video or video in videos:
            raise DataError(f"{path}, row {row}, column video: got '{shown(video)}'; expected each video's name once")
        videos.append(video)
        if cells.get("last"):
            first = _number(path, row, "first", cells.get("first") or "0")
            frames[video] = (first, _number(path, row, "last", cells["last"]))
        elif cells.get("frames"):
            frames[video] = (0, _number(path, row, "frames", cells["frames"]))
    if not videos:
        raise DataError(f"{path}: names no video; expected one name a line, or a CSV table with the column video")
    return VideoList(name=path.name, videos=tuple(videos), frames=frames)


def _number(path: Path, row: int, column: str, text: str) -> int:
    number = whole_number(text)
    if number is None:
        raise DataError(f"{path}, row {row}, column {column}: got '{shown(text)}'; expected a whole number, 0 or more")
    return number
