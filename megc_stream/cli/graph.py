"""From settings to the graph of a run: its sources, the stages of each, and where they find each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from megc_stream.errors import OutputError, UsageError
from megc_stream.output.run_folder import folder_for, prepare_folder
from megc_stream.pipeline.spool import SPOOL, Spool
from megc_stream.pipeline.worker import Place
from megc_stream.settings import CameraSettings, CaptureSettings, FaceSettings, Settings
from megc_stream.wire import load_security

__all__ = ["Node", "folder_of", "nodes_of", "place_of", "stages_of"]

PUBLISHER = "publisher"
_Section = TypeVar("_Section", CaptureSettings, FaceSettings, CameraSettings)


@dataclass(frozen=True, kw_only=True)
class Node:
    """One source of a run; ``name`` is "" where it is the only one and was given without a name."""

    number: int
    name: str
    settings: Settings


def nodes_of(settings: Settings) -> tuple[Node, ...]:
    """Return the sources with the settings of each.

    Raises
    ------
    UsageError
        There is no source, both ``source`` and ``sources`` are given, or two share a name or video.
    """
    if not settings.sources:
        if not settings.source:
            raise UsageError(
                "no source: expected a camera number, a video file or a folder, e.g. 'megc-stream run clip.mp4'"
            )
        return (Node(number=0, name="", settings=settings),)
    if settings.source:
        raise UsageError(
            f"source {settings.source} is given, and {len(settings.sources)} [[sources]] in the configuration; "
            "leave one of them out"
        )
    nodes = []
    taken: set[str] = set()
    for number, source in enumerate(settings.sources):
        video = source.video or source.name
        for what in {source.name, video}:
            if what in taken:
                raise UsageError(f"[[sources]] {source.name}: the name or video '{what}' is taken; give each its own")
            taken.add(what)
        update = {
            "source": source.source,
            "sources": (),
            "subject": source.subject or settings.subject,
            "video": video,
            "capture": _merged(settings.capture, source.capture),
            "face": _merged(settings.face, source.face),
        }
        nodes.append(Node(number=number, name=source.name, settings=settings.model_copy(update=update)))
    return tuple(nodes)


def _merged(outer: _Section, inner: _Section) -> _Section:
    """Return ``outer`` with what was set in ``inner``, and in the tables within it."""
    update = {name: getattr(inner, name) for name in inner.model_fields_set}
    for name, value in update.items():
        if isinstance(value, CameraSettings):
            update[name] = _merged(getattr(outer, name), value)
    return outer.model_copy(update=update)


def stages_of(settings: Settings) -> tuple[str, ...]:
    """Return the names of the stages of each source, in order."""
    return ("reader", "spotter", "recogniser", *(["vqa"] if settings.vqa.answerer is not None else []))


def folder_of(
    settings: Settings,
    node: Node,
    video: str,
    started: datetime,
    session: str = "",
    on_again: Callable[[Path], None] = lambda folder: None,
) -> Path:
    """Return the folder of a source's results, ready to be written.

    One that holds a spool of the same ``session`` is written anew, after ``on_again`` has looked at it.

    Raises
    ------
    UsageError, OutputError
        As :func:`megc_stream.output.prepare_folder`.
    """
    output = settings.output
    if node.name:
        base = output.folder or Path("megc-runs") / f"graph-{started:%Y%m%d-%H%M%S}"
        if output.folder is not None and not base.parent.is_dir():
            raise OutputError(f"folder {base}: its parent {base.parent} is not a folder; make it or change --out")
        try:
            base.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"folder {base}: cannot be made ({error.strerror}); change --out") from error
        output = output.model_copy(update={"folder": base / node.name})
    folder = folder_for(output, video, started)
    if session and Spool.belongs(folder / SPOOL, session):
        on_again(folder)
        output = output.model_copy(update={"overwrite": True})
    return prepare_folder(output, video, started)


def place_of(settings: Settings, node: Node | None, stage: str, directory: Path | None, lifeline: int | None) -> Place:
    """Return where a stage stands: its endpoints in ``directory`` (processes of one host) or in the settings (hosts).

    Raises
    ------
    UsageError
        An endpoint is missing from the settings.
    """
    names = stages_of(settings)
    following = None
    if node is not None and stage != names[-1]:
        following = names[names.index(stage) + 1]
    publisher = _endpoint(settings, None, PUBLISHER, directory)
    return Place(
        source="" if node is None else node.name,
        stage=stage,
        coordinator=_endpoint(settings, None, "coordinator", directory),
        inlet=publisher if node is None else None if stage == "reader" else _endpoint(settings, node, stage, directory),
        following=None if following is None else _endpoint(settings, node, following, directory),
        sinks=None if node is None else publisher,
        settings=settings.pipeline,
        security=load_security(settings.security),
        insecure=settings.wire.insecure_bind,
        lifeline=lifeline,
    )


def _endpoint(settings: Settings, node: Node | None, name: str, directory: Path | None) -> str:
    if directory is not None:
        return f"ipc://{directory}/{name if node is None else f'{node.number}-{name}'}"
    if node is None:
        endpoint = settings.pipeline.publisher if name == PUBLISHER else settings.pipeline.coordinator
        if endpoint is None:
            raise UsageError(f"pipeline.{name} is missing from the configuration; expected e.g. tcp://10.0.0.1:5600")
        return endpoint
    source = next((source for source in settings.sources if source.name == node.name), None)
    if source is None:
        raise UsageError("the runner 'hosts' needs [[sources]] with links in the configuration")
    found = {str(stage): endpoint for stage, endpoint in source.links.items()}.get(name)
    if found is None:
        raise UsageError(
            f"[[sources]] {node.name}: links.{name} is missing; expected where the {name} takes its records, "
            "e.g. tcp://10.0.0.2:5610"
        )
    return found
