"""Published Keras weights become one ONNX file that says where it comes from and has been compared with a reference."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from megc_stream.errors import ModelError, OutputError, UsageError
from megc_stream.models.keras_weights import read_mean_weights
from megc_stream.models.mean import MeanModel
from megc_stream.models.mean_graph import MeanWeights, build_mean
from megc_stream.models.session import sha256_of

__all__ = ["DEFAULT_K_PRIME_S", "PUBLISHED_CLASSES", "ImportedMean", "ImportOptions", "import_mean"]

PUBLISHED_CLASSES: dict[int, tuple[str, ...]] = {
    3: ("negative", "positive", "surprise"),
    4: ("negative", "positive", "surprise", "others"),
    5: ("disgust", "happiness", "others", "surprise", "repression"),
}
"""Class names by number of outputs, in the order in which the published training code numbers its labels.

The weight files themselves hold no names. 3: SAMM-LV, CAS(ME)2 and SMIC; 4: the same with others; 5: CASME II.
"""

DEFAULT_K_PRIME_S = 0.2
"""k' where none is given: half of an expression of 0.4 s (published: 0.185 s for SAMM-LV, 0.2 s for CAS(ME)2)."""

# Far above rounding in float32 (1e-6 with the published weights), far below any mistake.
_TOLERANCE = 1e-4
_NO_LICENCE = "not stated; the published weights of MEAN come without a licence file"


class ImportOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the weight files do not say.

    Parameters
    ----------
    name
        Name of the model.
    classes
        Names of the classes in the order of the outputs; None takes :data:`PUBLISHED_CLASSES`, or numbers where the
        number of outputs is not among them.
    k_s
        Seconds between the frames of a pair.
    k_prime_s
        Half an expected expression, seconds; None takes :data:`DEFAULT_K_PRIME_S` and says so.
    trained_on, licence, source, note
        Text for the file's metadata; an empty one is left out.
    only_trained
        Leave networks whose recognition head was never trained out of the mean of the probabilities.
    """

    name: str
    classes: tuple[str, ...] | None = None
    k_s: float = 0.1
    k_prime_s: float | None = None
    trained_on: str = "not stated"
    licence: str = _NO_LICENCE
    source: str = ""
    note: str = ""
    only_trained: bool = False


class ImportedMean(msgspec.Struct, frozen=True, kw_only=True):
    """An imported model: ``untrained`` names the files whose recognition head was never trained; ``difference`` is the
    largest deviation of the file's outputs from the reference; ``warnings`` are sentences for the user."""

    path: Path
    name: str
    networks: int
    classes: tuple[str, ...]
    k_s: float
    k_prime_s: float
    untrained: tuple[str, ...]
    difference: float
    warnings: tuple[str, ...]


def import_mean(files: Sequence[Path], out: Path, options: ImportOptions, *, overwrite: bool = False) -> ImportedMean:
    """Read published weight files and write one ONNX file; several become one averaged network.

    The file is compared with :func:`megc_stream.models.mean_reference` before it takes the place of ``out``.

    Parameters
    ----------
    files
        Keras weight files (HDF5) of MEAN, all with equally many classes.
    out
        The .onnx file to write; its folder exists.
    options
        What the weight files do not say.
    overwrite
        Replace an existing file.

    Raises
    ------
    UsageError
        ``out`` exists or is no .onnx file, or the options do not fit the weights.
    ModelError
        A weight file is missing, damaged or not MEAN, or the written file does not compute what the weights say.
    OutputError
        ``out`` cannot be written.
    """
    _check_call(files, out, options, overwrite)
    networks = [read_mean_weights(file) for file in files]
    count = networks[0].classes
    for file, network in zip(files, networks, strict=True):
        if network.classes != count:
            raise ModelError(
                f"weights {file}: {network.classes} classes, but {files[0]} has {count}; "
                "expected equally many in all files of one model"
            )
    classes, classes_from, warnings = _classes(options.classes, count)
    trained = [number for number, network in enumerate(networks) if network.recognition_trained]
    untrained = tuple(
        str(file) for file, network in zip(files, networks, strict=True) if not network.recognition_trained
    )
    left_out = options.only_trained and 0 < len(trained) < len(networks)
    if untrained:
        what = "all of them" if not trained else ", ".join(Path(file).name for file in untrained)
        warnings.append(
            f"the recognition head of {len(untrained)} of {len(networks)} files was never trained ({what}): "
            + ("left out of the emotions" if left_out else "its emotions mean nothing")
        )
    if options.k_prime_s is None:
        warnings.append(f"k' was not given: {DEFAULT_K_PRIME_S:g} s is assumed")
    k_prime_s = options.k_prime_s or DEFAULT_K_PRIME_S
    metadata = {
        "name": options.name,
        "classes": json.dumps(classes, ensure_ascii=False),
        "classes_from": classes_from,
        "k_s": f"{options.k_s:g}",
        "k_prime_s": f"{k_prime_s:g}",
        "k_prime_from": "given" if options.k_prime_s is not None else "assumed",
        "trained_on": options.trained_on,
        "licence": options.licence,
        "source": options.source,
        "note": options.note,
        "networks": str(len(networks)),
        "weights": json.dumps([{"file": file.name, "sha256": sha256_of(file)} for file in files], ensure_ascii=False),
        "recognition_untrained": json.dumps([Path(file).name for file in untrained], ensure_ascii=False),
        "recognition_averaged_over": str(len(trained) if left_out else len(networks)),
    }
    metadata = {key: value for key, value in metadata.items() if value}
    difference = _write(networks, metadata, trained if left_out else (), out)
    return ImportedMean(
        path=out,
        name=options.name,
        networks=len(networks),
        classes=classes,
        k_s=options.k_s,
        k_prime_s=k_prime_s,
        untrained=untrained,
        difference=difference,
        warnings=tuple(warnings),
    )


def _check_call(files: Sequence[Path], out: Path, options: ImportOptions, overwrite: bool) -> None:
    if not files:
        raise UsageError("import of MEAN: no weight file; expected at least one .hdf5 file")
    if out.suffix != ".onnx":
        raise UsageError(f"{out}: expected the .onnx file to write after the weight files")
    if out.exists() and not overwrite:
        raise UsageError(f"{out}: exists; choose another name or say --overwrite")
    if not out.parent.is_dir():
        raise UsageError(f"{out}: folder {out.parent} does not exist; create it first")
    for name, value in (("k", options.k_s), ("k'", options.k_prime_s)):
        if value is not None and not 0 < value <= 2:
            raise UsageError(f"{name} {value:g} s: expected a duration above 0 and up to 2 s")


def _classes(given: tuple[str, ...] | None, count: int) -> tuple[tuple[str, ...], str, list[str]]:
    if given is not None:
        if len(given) != count or len(set(given)) != count or not all(given):
            raise UsageError(f"classes {','.join(given)}: the weights have {count} outputs; expected {count} names")
        return given, "given at import", []
    if count in PUBLISHED_CLASSES:
        return PUBLISHED_CLASSES[count], f"order of the published training code for {count} classes", []
    numbers = tuple(f"class {number}" for number in range(count))
    return numbers, "unknown", [f"no names are known for {count} classes: they are numbered; name them with --classes"]


def _write(networks: Sequence[MeanWeights], metadata: Mapping[str, str], named_by: Sequence[int], out: Path) -> float:
    part = out.with_name(f".{out.stem}.{os.getpid()}.part.onnx")
    try:
        part.write_bytes(build_mean(networks, metadata, named_by))
        difference = MeanModel(part).difference()
        if difference is None or not difference <= _TOLERANCE:
            raise ModelError(
                f"model {out}: its outputs differ by {difference} from the weights', expected {_TOLERANCE:g} at "
                "most; it was not written"
            )
        part.replace(out)
    except OSError as error:
        raise OutputError(
            f"{out}: cannot be written ({error.strerror or error}); free space or check rights"
        ) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    return difference
