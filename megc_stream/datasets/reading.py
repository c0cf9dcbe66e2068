"""Reading a data set whole, or one recording of it."""

from __future__ import annotations

import difflib
from pathlib import Path

from megc_stream.capture import Source, open_source
from megc_stream.capture.folder import FolderReader
from megc_stream.capture.replay import ReplaySource
from megc_stream.capture.source import Identity
from megc_stream.clock import Clock
from megc_stream.datasets.casme import CAS_ME_2, CASME_II
from megc_stream.datasets.casme3 import CAS_ME_3, CAS_ME_3_CHALLENGE
from megc_stream.datasets.events import place_events
from megc_stream.datasets.findings import Log
from megc_stream.datasets.folders import Place, read_recording, without_copies
from megc_stream.datasets.fourdme import FOURDME
from megc_stream.datasets.layouts import Layout
from megc_stream.datasets.plain import PLAIN
from megc_stream.datasets.records import DataSet, Recording
from megc_stream.datasets.samm import SAMM_CHALLENGE, SAMM_LV
from megc_stream.datasets.smic import SMIC_HS, SMIC_NIR, SMIC_VIS
from megc_stream.datasets.vqa_clips import MEGC_VQA
from megc_stream.errors import DataError, UsageError
from megc_stream.settings import CaptureSettings

__all__ = ["LAYOUTS", "find_recording", "list_recordings", "open_recording", "read_dataset"]

LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        SAMM_LV,
        SAMM_CHALLENGE,
        CAS_ME_3,
        CAS_ME_3_CHALLENGE,
        CAS_ME_2,
        CASME_II,
        SMIC_HS,
        SMIC_VIS,
        SMIC_NIR,
        FOURDME,
        MEGC_VQA,
        PLAIN,
    )
}
"""All layouts by name."""


def read_dataset(layout: str, root: Path) -> DataSet:
    """Find the recordings of a data set and read its annotations.

    Frames are listed, not decoded: of each recording only the header of the first image is read.

    Parameters
    ----------
    layout
        A name in :data:`LAYOUTS`.
    root
        The folder that holds the data set; folders and spreadsheets may lie deeper.

    Returns
    -------
    DataSet
        What could be read; everything missing, damaged or mended is among its findings.

    Raises
    ------
    UsageError
        The layout is unknown.
    DataError
        ``root`` is no readable folder, or neither a recording nor an annotation of this layout is in it.
    """
    kind = _layout(layout)
    log = Log(root.absolute())
    tree = kind.look(root, log)
    recordings: dict[tuple[str, str], Recording] = {}
    for place in without_copies(tree.places, log):
        recording = read_recording(place, log)
        if recording is not None:
            recordings[place.subject, place.video] = recording
    drafts = [] if kind.events is None else list(kind.events(tree, recordings, log))
    if not tree.places and not drafts and not tree.sheets:
        raise DataError(f"{root}: holds no recording of {kind.title}; docs/datasets.md shows what is expected where")
    if not recordings:
        log.error(".", f"no recording of {kind.title} was found")
    for subject, video in kind.expected:
        if recordings and (subject, video) not in recordings:
            log.warning(video, "is missing: the whole set has it")
    return DataSet(
        layout=layout,
        root=root,
        recordings=tuple(recordings.values()),
        annotations=place_events(drafts, recordings, log),
        findings=tuple(log.findings),
    )


def list_recordings(layout: str, root: Path) -> list[Place]:
    """List the recordings of a data set, by subject and video, without looking into them.

    Raises
    ------
    UsageError
        The layout is unknown.
    DataError
        ``root`` is no readable folder, or holds no recording of this layout.
    """
    kind = _layout(layout)
    log = Log(root.absolute())
    places = without_copies(kind.look(root, log).places, log)
    if not places:
        raise DataError(f"{root}: holds no recording of {kind.title}; docs/datasets.md shows what is expected where")
    return places


def find_recording(layout: str, root: Path, name: str) -> Recording:
    """Find one recording without looking into the others.

    Parameters
    ----------
    layout, root
        As in :func:`read_dataset`.
    name
        Its video name, or ``subject/video`` or ``subject_video`` where several subjects have a video of that name.

    Raises
    ------
    UsageError
        The layout is unknown, or several recordings have that name.
    DataError
        There is no such recording, or its frames cannot be listed.
    """
    log = Log(root.absolute())
    places = list_recordings(layout, root)
    names = {f"{place.subject}/{place.video}": place for place in places}
    found = [place for place in places if name in _names(place)]
    if not found:
        found = [place for place in places if name.lower() in {known.lower() for known in _names(place)}]
    if not found:
        near = difflib.get_close_matches(name, [n for place in places for n in _names(place)], n=3)
        hint = f"; near: {', '.join(near)}" if near else ""
        raise DataError(f"{layout}:{root}: no recording '{name}' among {len(places)}{hint}")
    if len(found) > 1:
        first = ", ".join(known for known, place in names.items() if place in found[:3])
        raise UsageError(f"{layout}:{root}: {len(found)} recordings are called '{name}'; name the subject too: {first}")
    recording = read_recording(found[0], log)
    if recording is None:
        problem = log.findings[-1]
        raise DataError(f"{root / problem.file}: {problem.message}")
    return recording


def open_recording(recording: Recording, settings: CaptureSettings, *, clock: Clock, colour: bool = False) -> Source:
    """Open the frames of a recording; their ``number`` is the data set's own.

    Subject, video and rate are the recording's; a rate in ``settings`` goes before. A folder is not listed again.

    Parameters
    ----------
    recording
        From :func:`read_dataset` or :func:`find_recording`.
    settings, clock, colour
        As in :func:`megc_stream.capture.open_source`.

    Raises
    ------
    CaptureError
        The video file or the first image cannot be read.
    """
    if recording.files:
        images = list(zip(recording.numbers, recording.files, strict=True))
        fps = settings.fps or recording.fps
        reader = FolderReader(recording.path, colour=colour, fps=fps, images=images)
        identity = Identity(source=recording.video, subject=recording.subject, video=recording.video)
        return ReplaySource(reader, identity, settings, clock)

    def opened(fps: float | None) -> Source:
        return open_source(
            str(recording.path.absolute()),
            settings.model_copy(update={"fps": fps}),
            clock=clock,
            subject=recording.subject,
            video=recording.video,
            colour=colour,
        )

    source = opened(settings.fps)
    if settings.fps is not None or source.info.fps == recording.fps:  # the file's own times are better than a rate
        return source
    source.close()
    return opened(recording.fps)


def _layout(name: str) -> Layout:
    try:
        return LAYOUTS[name]
    except KeyError:
        raise UsageError(f"layout '{name}': unknown; expected one of {', '.join(LAYOUTS)}") from None


def _names(place: Place) -> tuple[str, str, str]:
    return place.video, f"{place.subject}/{place.video}", f"{place.subject}_{place.video}"
