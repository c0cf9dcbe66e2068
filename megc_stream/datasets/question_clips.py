"""The clips and videos that the rows of a question file are about, found by their names below a folder.

The challenge's rows name a clip ("SAMM-1", "006_1_2", "EP02_01f"), and the training file a subject ("6", "sub01");
where the folders of the data sets put it does not matter.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from megc_stream.datasets.folders import holds_images, natural
from megc_stream.datasets.plain import VIDEO_SUFFIXES
from megc_stream.errors import DataError

__all__ = ["ClipIndex", "native_fps"]

_DEPTH = 7
_FPS = {"samm": 200.0, "casme2": 200.0, "smic": 100.0, "casme3": 30.0, "cas": 30.0}


def native_fps(dataset: str) -> float | None:
    """Return the frames per second of a data set ("samm", "casme3_test", ...); None where it is unknown."""
    name = dataset.casefold()
    return next((fps for prefix, fps in _FPS.items() if name.startswith(prefix)), None)


class ClipIndex:
    """All folders of images and all video files below ``root``, by name.

    Raises
    ------
    DataError
        ``root`` is no folder.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise DataError(f"{root}: is not a folder; expected the frames of the clips, one folder or video file each")
        self._root = root.absolute()
        self._places: dict[str, list[Path]] = {}
        self._enter(self._root, 0)

    def __len__(self) -> int:
        return sum(map(len, self._places.values()))

    def find(self, video: str, subject: str = "", dataset: str = "") -> Path:
        """Return the folder or file of a clip.

        Of several of that name, those count that lie below a folder of the subject's name ("6" is "006" and "sub06"),
        then those below one that begins with the data set's name, then those that are not cropped.

        Raises
        ------
        DataError
            There is none, or more than one.
        """
        found = self._places.get(video.casefold(), [])
        rules: tuple[Callable[[list[str]], bool], ...] = (
            lambda names: bool(subject) and any(_same_subject(name, subject) for name in names),
            lambda names: bool(dataset) and any(name.startswith(dataset.casefold().split("_", 1)[0]) for name in names),
            lambda names: not any("crop" in name for name in names),
        )
        for keep in rules:
            if len(found) > 1:
                found = [path for path in found if keep(self._names(path))] or found
        if len(found) == 1:
            return found[0]
        if found:
            raise DataError(f"clip '{video}': is both {found[0]} and {found[1]}; give the folder of one with --frames")
        known = ", ".join(path.name for paths in list(self._places.values())[:3] for path in paths[:1])
        raise DataError(
            f"clip '{video}': no folder of images or video file of that name below {self._root}; "
            f"{f'there are {known}, ...' if known else 'there are none at all'}"
        )

    def _enter(self, folder: Path, depth: int) -> None:
        try:
            with os.scandir(folder) as entries:
                listed = [(entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith(".")]
        except OSError as error:
            raise DataError(f"{folder}: cannot be read ({error.strerror}); check its rights") from error
        for name, is_folder in sorted(listed, key=lambda item: natural(item[0])):
            path = folder / name
            if is_folder:
                if holds_images(path):
                    self._places.setdefault(name.casefold(), []).append(path)
                elif depth < _DEPTH:
                    self._enter(path, depth + 1)
            elif name.lower().endswith(VIDEO_SUFFIXES):
                self._places.setdefault(path.stem.casefold(), []).append(path)

    def _names(self, path: Path) -> list[str]:
        return [part.casefold() for part in path.relative_to(self._root).parts[:-1]]


def _same_subject(name: str, subject: str) -> bool:
    if name == subject.casefold():
        return True
    numbers = [re.fullmatch(r"(?:sub|s|sp)?0*(\d+)", text) for text in (name, subject.casefold())]
    return all(numbers) and len({number[1] for number in numbers if number}) == 1
