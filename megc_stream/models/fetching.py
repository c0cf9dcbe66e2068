"""Published weights of MEAN: downloaded on request only, or taken from a folder, then imported as one network."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from megc_stream.errors import ModelError, OutputError, UsageError
from megc_stream.models.importing import ImportedMean, ImportOptions, import_mean
from megc_stream.models.keras_weights import read_mean_weights
from megc_stream.models.registry import ModelEntry, entries, record_checksum, recorded_checksums
from megc_stream.models.session import cache_folder, sha256_of

__all__ = ["fetch_mean", "fetchable", "fetched_path", "fold_of"]

_TIMEOUT_S = 30.0
_MOST_BYTES = 10_000_000


def fetchable(name: str) -> ModelEntry:
    """Return the entry of a model that can be fetched.

    Raises
    ------
    UsageError
        The model is unknown or comes with the package.
    """
    entry = entries().get(name)
    if entry is None or not entry.folds:
        known = ", ".join(entry.name for entry in entries().values() if entry.folds)
        what = "unknown" if entry is None else "comes with megc-stream, there is nothing to fetch"
        raise UsageError(f"model '{name}': {what}; can be fetched: {known}")
    return entry


def fold_of(text: str, entry: ModelEntry) -> int:
    """Return the number of a fold given as "7" or "s7".

    Raises
    ------
    UsageError
        No such fold.
    """
    match = re.fullmatch(r"s?0*([1-9]\d{0,3})", text)
    if match is None or int(match[1]) > entry.folds:
        raise UsageError(f"--fold {text}: expected s1 to s{entry.folds}, the weight files of {entry.name}")
    return int(match[1])


def fetched_path(entry: ModelEntry, fold: int | None = None, folder: Path | None = None) -> Path:
    """Return the .onnx file that :func:`fetch_mean` writes."""
    name = entry.name if fold is None else f"{entry.name}-fold-{fold}"
    return (folder or cache_folder()) / f"{name}.onnx"


def fetch_mean(
    entry: ModelEntry,
    *,
    folder: Path | None = None,
    given: Path | None = None,
    fold: int | None = None,
    k_prime_s: float | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> ImportedMean:
    """Fetch the weight files of a published model and import them: all folds averaged, or one.

    A file whose checksum the registry does not know is trusted at its first download; its checksum is recorded and
    later downloads have to match it. Interrupted fetches go on where they stopped.

    Parameters
    ----------
    entry
        See :func:`fetchable`.
    folder
        Where weights and model go; None is the cache, where ``--model`` finds it by name.
    given
        Folder with files fetched by hand (or a copy of the whole repository): nothing is downloaded.
    fold
        Import this fold alone, under the name ``<name>-fold-<number>``.
    k_prime_s
        Half an expected expression, seconds; None takes the registry's.
    overwrite
        Replace an imported model.
    progress
        Called with files done and files in all.

    Raises
    ------
    UsageError
        The model is there already, or ``given`` is no folder.
    ModelError
        A file cannot be fetched, is missing, differs from its checksum or is not MEAN; says what to download by hand
        and where to put it.
    OutputError
        The folder cannot be written.
    """
    out = fetched_path(entry, fold, folder)
    if out.exists() and not overwrite:
        raise UsageError(f"{out}: exists; say --overwrite to fetch and import {entry.name} again")
    stems = list(entry.addresses()) if fold is None else [f"s{fold}"]
    places = None if given is None else _found(entry, given, stems)
    try:
        (out.parent / entry.name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{out.parent}: cannot be created ({error.strerror or error}); check rights or choose --to FOLDER"
        ) from error
    files = []
    for done, stem in enumerate(stems):
        if progress is not None:
            progress(done, len(stems))
        files.append(_downloaded(entry, stem, out.parent) if places is None else _checked(entry, stem, places[stem]))
    if progress is not None:
        progress(len(stems), len(stems))
    result = import_mean(
        files,
        out,
        ImportOptions(
            name=out.stem,
            classes=entry.classes,
            k_s=entry.k_s or 0.1,
            k_prime_s=entry.k_prime_s if k_prime_s is None else k_prime_s,
            trained_on=entry.trained_on,
            licence=entry.licence,
            source=entry.address,
            note=_note(entry, fold),
            only_trained=True,
        ),
        overwrite=overwrite,
    )
    record_checksum(out.parent, out.name, sha256_of(out))
    return result


def _note(entry: ModelEntry, fold: int | None) -> str:
    if fold is not None:
        return (
            f"fold s{fold}: the network that was trained without the {fold}. person of {entry.trained_on}, in the "
            "order of the published code (natural order of the folders of persons with micro-expressions)"
        )
    return (
        f"average of {entry.folds} leave-one-subject-out networks, each of which has seen the other persons: scores on "
        f"{entry.trained_on} with this model are not leave-one-subject-out; use single folds for those"
    )


def _downloaded(entry: ModelEntry, stem: str, folder: Path) -> Path:
    """Return a weight file that matches its checksum, downloaded where it is not there yet."""
    import pooch
    import requests

    key = f"{entry.name}/{stem}.hdf5"
    path = folder / key
    address = entry.addresses()[stem]
    expected = entry.fold_sha256.get(stem) or recorded_checksums(folder).get(key)
    try:
        with _quiet(pooch.get_logger()):
            pooch.retrieve(
                address,
                None if expected is None else f"sha256:{expected}",
                fname=path.name,
                path=path.parent,
                downloader=_download,
            )
    except requests.RequestException as error:
        failure = ModelError(
            f"model {entry.name}: {address} cannot be downloaded ({_short(error)}); download the {entry.folds} files "
            f"s1.hdf5 to s{entry.folds}.hdf5 from {entry.address}/ on another machine, put them into one folder and "
            f"run 'megc-stream models fetch {entry.name} --from FOLDER'"
        )
        for other in entry.addresses().values():
            failure.add_note(other)
        raise failure from error
    except ValueError as error:
        raise ModelError(
            f"model {entry.name}: {address} is not the file expected: its SHA-256 is not {expected}; the file was "
            "changed at its source or on the way, nothing was kept: ask the source before trusting it"
        ) from error
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}); check rights and space") from error
    if expected is None:
        try:
            read_mean_weights(path)
        except ModelError:
            path.unlink(missing_ok=True)
            raise
        record_checksum(folder, key, sha256_of(path))
    return path


def _download(address: str, path: str, _: object) -> None:
    """Write what is at ``address`` into ``path``: pooch's own downloader leaves sockets open when a download fails."""
    import requests

    with (
        requests.Session() as session,
        session.get(address, stream=True, timeout=_TIMEOUT_S) as response,
        Path(path).open("wb") as stream,
    ):
        response.raise_for_status()
        for chunk in response.iter_content(1 << 16):
            if stream.tell() > _MOST_BYTES:
                raise requests.exceptions.ContentDecodingError(f"more than {_MOST_BYTES} bytes, so no weight file")
            stream.write(chunk)


def _found(entry: ModelEntry, given: Path, stems: list[str]) -> dict[str, Path]:
    """Return the weight files in a folder filled by hand, or in a copy of the repository."""
    if not given.is_dir():
        raise UsageError(f"--from {given}: no such folder; expected one with {stems[0]}.hdf5 to {stems[-1]}.hdf5")
    published = entry.address.rsplit("/", 3)[1:]
    for depth in range(len(published), -1, -1):
        place = given.joinpath(*published[len(published) - depth :])
        if any((place / f"{stem}.hdf5").is_file() for stem in stems):
            break
    missing = [stem for stem in stems if not (place / f"{stem}.hdf5").is_file()]
    if missing:
        failure = ModelError(
            f"--from {given}: {len(missing)} of {len(stems)} weight files are missing "
            f"({', '.join(f'{stem}.hdf5' for stem in missing)}); download them from {entry.address}/"
        )
        for stem in missing:
            failure.add_note(entry.addresses()[stem])
        raise failure
    return {stem: place / f"{stem}.hdf5" for stem in stems}


def _checked(entry: ModelEntry, stem: str, path: Path) -> Path:
    expected = entry.fold_sha256.get(stem)
    if expected is not None and sha256_of(path) != expected:
        raise ModelError(
            f"{path}: its SHA-256 is not {expected}; expected the published file {entry.addresses()[stem]}"
        )
    return path


def _short(error: Exception) -> str:
    """Return the reason at the bottom of a chain of network errors, on one line."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"the server says {response.status_code} {response.reason}"
    text = " ".join(str(error).split())
    return text if len(text) <= 160 else f"{type(error).__name__}, {text[:120]}..."


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """Keep pooch's own lines about downloads off the screen; the command says its own."""
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
