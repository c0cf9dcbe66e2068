"""The runs of ``megc-stream batch``: which are to do, doing them in one or several processes, and their sum."""

from __future__ import annotations

import csv
import io
import multiprocessing
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import msgspec

from megc_stream.cli.console import note, report_json, say, warn
from megc_stream.cli.progress import CountProgress
from megc_stream.datasets import list_recordings
from megc_stream.datasets.folders import Place
from megc_stream.errors import MegcError, OutputError, UsageError
from megc_stream.models import find_mean, sha256_of
from megc_stream.output.run_folder import INTERVALS, RESULT_FILES, RUN
from megc_stream.output.run_record import RunRecord, environment, redacted
from megc_stream.settings import Settings

__all__ = ["BatchResult", "Outcome", "batch_command", "run_batch"]

# Where a run comes from and goes to has no bearing on its results.
_BESIDE_THE_POINT = ("source", "subject", "video", "pipeline", "output")


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How the run of one recording went; ``error`` is "" where it is complete."""

    video: str
    folder: str
    error: str = ""
    stopped: bool = False
    frames: int = 0
    events: int = 0
    wall_s: float = 0.0
    warnings: tuple[str, ...] = ()


class BatchResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a batch left in ``folder``; ``skipped`` of its ``recordings`` were complete before, ``complete`` are now."""

    folder: str
    intervals: str
    recordings: int
    skipped: int
    complete: int
    events: int
    runs: tuple[Outcome, ...]

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """The runs that failed, by video."""
        return tuple(outcome for outcome in self.runs if outcome.error)


def batch_command(
    root: Path,
    layout: str,
    settings: Settings,
    out: Path | None,
    *,
    jobs: int,
    only: Sequence[str],
    overwrite: bool,
    json_file: str | None,
) -> None:
    """Analyse the recordings and tell; see :func:`megc_stream.cli.batch.batch`."""
    result = run_batch(root, layout, settings, out, jobs=jobs, only=only, overwrite=overwrite)
    report_json(json_file, msgspec.to_builtins(result))
    note(f"{result.complete} of {result.recordings} recordings complete, {result.events} expressions found")
    if json_file != "-":
        say(result.intervals)
    for outcome in result.failed:
        note(f"failed: {outcome.video}: {outcome.error}")
    if failed := result.failed:
        names = ", ".join(outcome.video for outcome in failed[:5]) + (", ..." if len(failed) > 5 else "")
        raise MegcError(f"{len(failed)} of {result.recordings} recordings failed: {names}")
    if result.complete < result.recordings:
        raise MegcError(
            f"stopped with {result.complete} of {result.recordings} recordings complete; "
            "the same command goes on from there"
        )


def run_batch(
    root: Path,
    layout: str,
    settings: Settings,
    out: Path | None,
    *,
    jobs: int,
    only: Sequence[str],
    overwrite: bool,
) -> BatchResult:
    """Analyse the recordings and pool their intervals; failed and stopped runs are in the result.

    Raises
    ------
    MegcError
        The data set or a setting is at fault, or results of other settings are in the way.
    """
    listed = list_recordings(layout, root)
    chosen = _chosen(listed, only)
    out = _prepare(out, layout, root)
    videos = Counter(place.video for place in listed)
    everything = []
    for name, place in _folders(listed):
        short = place.video if videos[place.video] == 1 else f"{place.subject}/{place.video}"
        task = _for_recording(settings, f"{layout}:{root / short}", out / name)
        everything.append((name, task, place in chosen))
    tasks = [(name, task) for name, task, is_chosen in everything if is_chosen]
    checksum = sha256_of(find_mean(settings.model.name))
    done: list[str] = []
    to_do: list[tuple[str, Settings]] = []
    for name, task in tasks:
        state = _state(out / name, task, checksum)
        if state == "other" and not overwrite:
            raise UsageError(
                f"{out / name}: holds complete results of other settings or another version; "
                "choose another --out, or give --overwrite"
            )
        if state == "complete":
            done.append(name)
        else:
            to_do.append((name, task))
    if done:
        note(f"{len(done)} of {len(tasks)} recordings are complete already")
    outcomes = _run_all(to_do, jobs, len(tasks))
    # Asked of the folders: after Ctrl-C a run may end well that nobody waited for.
    complete = [name for name, task in tasks if _state(out / name, task, checksum) == "complete"]
    events = _pool(out, [name for name, task, _ in everything if _state(out / name, task, checksum) == "complete"])
    return BatchResult(
        folder=str(out),
        intervals=str(out / INTERVALS),
        recordings=len(tasks),
        skipped=len(done),
        complete=len(complete),
        events=events,
        runs=tuple(sorted(outcomes, key=lambda outcome: outcome.video)),
    )


def _chosen(places: list[Place], only: Sequence[str]) -> list[Place]:
    if not only:
        return places
    chosen = [place for place in places if {place.video, f"{place.subject}/{place.video}"} & set(only)]
    known = {name for place in places for name in (place.video, f"{place.subject}/{place.video}")}
    if unknown := [name for name in only if name not in known]:
        raise UsageError(f"--only {unknown[0]}: no such video among {len(places)}, the first is {places[0].video}")
    return chosen


def _prepare(out: Path | None, layout: str, root: Path) -> Path:
    if out is None:
        stem = re.sub(r"[^\w.-]+", "_", root.absolute().name).strip(".") or "data"
        out = Path("megc-runs") / f"{layout}-{stem}"
        parent = out.parent
    else:
        parent = out
    try:
        if parent is not out:
            parent.mkdir(exist_ok=True)
        out.mkdir(exist_ok=True)
    except FileNotFoundError as error:
        raise OutputError(f"folder {out}: its parent {out.parent} is not a folder; make it or change --out") from error
    except OSError as error:
        raise OutputError(f"folder {out}: cannot be made ({error.strerror}); change --out") from error
    return out


def _folders(places: Sequence[Place]) -> Iterator[tuple[str, Place]]:
    """Yield the name of its folder with each place; the subject is part of it where the video's name lacks it."""
    taken: set[str] = set()
    for place in places:
        video = place.video
        full = video if video.startswith(place.subject) else f"{place.subject}_{video}"
        stem = re.sub(r"[^\w.()-]+", "_", full).strip(".") or "video"
        name, count = stem, 1
        while name.lower() in taken:
            count += 1
            name = f"{stem}-{count}"
        taken.add(name.lower())
        yield name, place


def _for_recording(settings: Settings, source: str, folder: Path) -> Settings:
    output = settings.output.model_copy(update={"folder": folder, "overwrite": True})
    return settings.model_copy(update={"source": source, "output": output})


def _state(folder: Path, task: Settings, checksum: str) -> str:
    """Return "complete", "other" (complete, of other settings, model or version) or "missing"."""
    if not all((folder / name).is_file() for name in RESULT_FILES):
        return "missing"
    try:
        record = msgspec.json.decode((folder / RUN).read_bytes(), type=RunRecord)
    except (OSError, msgspec.DecodeError):
        return "missing"
    if record.status != "complete":
        return "missing"
    wanted = _relevant(redacted(task.model_dump(mode="json")))
    same_model = checksum in record.checksums.values()
    same = _relevant(record.settings) == wanted and same_model
    pictures = record.settings.get("output", {}).get("with_images") == task.output.with_images
    version = record.environment.megc_stream == environment().megc_stream
    return "complete" if same and pictures and version else "other"


def _relevant(settings: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in settings.items() if key not in _BESIDE_THE_POINT}


def _run_all(to_do: Sequence[tuple[str, Settings]], jobs: int, total: int) -> list[Outcome]:
    """Run all, tell of each when it is done, and stop early on Ctrl-C."""
    outcomes: list[Outcome] = []
    if not to_do:
        return outcomes
    with CountProgress("analysing", "videos") as progress:
        runs = _in_turn(to_do) if jobs == 1 else _side_by_side(to_do, min(jobs, len(to_do)))
        try:
            for outcome in runs:
                outcomes.append(outcome)
                progress(total - len(to_do) + len(outcomes), total)
                progress.line(_told(outcome))
                for text in outcome.warnings:
                    progress.line(f"warning: {outcome.video}: {text}")
                if outcome.stopped:
                    break
        except KeyboardInterrupt:
            pass  # what is complete is kept, and the caller says that it is not all
    return outcomes


def _in_turn(to_do: Sequence[tuple[str, Settings]]) -> Iterator[Outcome]:
    for name, task in to_do:
        yield _run(name, task)


def _side_by_side(to_do: Sequence[tuple[str, Settings]], jobs: int) -> Iterator[Outcome]:
    # Spawned, not forked: ONNX Runtime and numba keep threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_ignore_interrupts) as pool:
        futures = {pool.submit(_run, name, task): (name, task) for name, task in to_do}
        try:
            for future in as_completed(futures):
                name, task = futures[future]
                try:
                    yield future.result()
                except BrokenProcessPool:
                    yield Outcome(
                        video=name,
                        folder=str(task.output.folder),
                        error="its process died, perhaps for want of memory; use fewer --jobs and go on",
                    )
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _ignore_interrupts() -> None:
    """Leave Ctrl-C to the analysis, which ends its run well, and to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _run(name: str, task: Settings) -> Outcome:
    import cv2

    from megc_stream.cli.analysis import analyse

    # One core a stream: OpenCV's own threads would compete with the other stages.
    cv2.setNumThreads(1)
    began_s = time.monotonic()
    folder = str(task.output.folder)
    try:
        analysis = analyse(task)
    except MegcError as error:
        text = " ".join(str(error).split())
        return Outcome(video=name, folder=folder, error=text, wall_s=round(time.monotonic() - began_s, 3))
    return Outcome(
        video=name,
        folder=folder,
        stopped=analysis.end.reason == "stopped",
        frames=analysis.end.frames,
        events=len(analysis.events),
        wall_s=round(time.monotonic() - began_s, 3),
        warnings=analysis.warnings,
    )


def _told(outcome: Outcome) -> str:
    if outcome.error:
        return f"{outcome.video}: failed: {outcome.error}"
    stopped = ", stopped early" if outcome.stopped else ""
    return (
        f"{outcome.video}: {outcome.frames} frames{stopped}, {outcome.events} expressions found, {outcome.wall_s:.1f} s"
    )


def _pool(out: Path, names: Sequence[str]) -> int:
    """Write the rows of all ``intervals.csv`` into one and return their number."""
    pooled = io.StringIO(newline="")
    writer = csv.writer(pooled, lineterminator="\n")
    writer.writerow(("subject", "video", "onset", "offset", "emotion"))
    events = 0
    for name in names:
        path = out / name / INTERVALS
        try:
            with path.open(encoding="utf-8", newline="") as stream:
                rows = list(csv.reader(stream))[1:]
        except OSError as error:
            warn(f"{path}: cannot be read ({error.strerror}); its events are not in {out / INTERVALS}")
            continue
        writer.writerows(rows)
        events += len(rows)
    partial = out / f".{INTERVALS}.part"
    try:
        try:
            partial.write_text(pooled.getvalue(), encoding="utf-8")
            partial.replace(out / INTERVALS)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{out / INTERVALS}: cannot be written ({error.strerror}); free space") from error
    return events
