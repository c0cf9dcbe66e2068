"""``megc-stream models``: what there is, where it comes from, is it sound; import and fetch of published weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from megc_stream.cli.console import note, report_json, say, warn
from megc_stream.cli.options import JsonOption
from megc_stream.errors import ModelError

if TYPE_CHECKING:
    from megc_stream.models import ImportedMean, ModelEntry

__all__ = ["app"]

app = typer.Typer(help="List, check, import and fetch models.", no_args_is_help=True)


@app.command("list", epilog="Example: megc-stream models list --json -")
def list_command(json_file: JsonOption = None) -> None:
    """List the models: those that come with megc-stream, those imported into the cache, those that can be fetched."""
    from megc_stream.models import entries, installed_models, sha256_of, shipped_models

    rows: list[dict[str, Any]] = []
    for name, path in installed_models().items():
        state = "shipped" if name in shipped_models() else "fetched"
        known = _of_entry(entries().get(name.partition("-fold-")[0]))
        rows.append({**known, "name": name, "state": state, "path": str(path), "sha256": sha256_of(path)})
    installed = {row["name"] for row in rows}
    rows += [
        {**_of_entry(entry), "state": "fetchable", "path": None}
        for entry in entries().values()
        if entry.folds and entry.name not in installed
    ]
    report_json(json_file, {"models": rows})
    if json_file == "-":
        return
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        about = f"{row['task']}; trained on {row['trained_on']}" if "task" in row else "see 'models info'"
        say(f"{row['name']:{width}}  {row['state']:9}  {about}")
    if any(row["state"] == "fetchable" for row in rows):
        note("'megc-stream models fetch NAME' takes a fetchable model from its source; read its licence note first")


@app.command("info", epilog="Example: megc-stream models info mean-samm-lv")
def info_command(
    model: Annotated[str, typer.Argument(metavar="NAME|FILE", help="A model of 'models list', or an .onnx file.")],
    json_file: JsonOption = None,
) -> None:
    """Say what a model is: source, licence, classes, k, k', checksum, published scores, its card."""
    found = _describe(model)
    report_json(json_file, found)
    if json_file != "-":
        _print(found)


@app.command("verify", epilog="Example: megc-stream models verify mean-synthetic")
def verify_command(
    model: Annotated[str | None, typer.Argument(metavar="[NAME|FILE]", help="One model [all that are here].")] = None,
    json_file: JsonOption = None,
) -> None:
    """Check models: checksum, loads, runs, and computes what its file says it should."""
    import msgspec

    from megc_stream.models import installed_models, verify_model

    places = installed_models() if model is None else dict([_place(model)])
    checks = [verify_model(name, path) for name, path in places.items()]
    report_json(json_file, {"models": [msgspec.to_builtins(check, enc_hook=str) for check in checks]})
    if json_file != "-":
        for check in checks:
            outputs = "not recorded" if check.difference is None else f"within {check.difference:.0e} of the recorded"
            say(f"{check.name}: {'damaged' if check.problem else 'good'}; SHA-256 {check.checksum}, outputs {outputs}")
    bad = [f"{check.name}: {check.problem}" for check in checks if check.problem]
    if bad:
        raise ModelError("; ".join(bad))


@app.command(
    "import-mean", epilog="Example: megc-stream models import-mean s1.hdf5 s2.hdf5 mean-mine.onnx --k-prime-s 0.185"
)
def import_mean_command(
    weights: Annotated[list[Path], typer.Argument(metavar="W.hdf5...", help="Keras weight files of MEAN.")],
    out: Annotated[Path, typer.Argument(metavar="OUT.onnx", help="The model to write; several files are averaged.")],
    classes: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,C",
            help="Names of the classes in the order of the outputs [3: negative,positive,surprise; 4: the same and "
            "others; 5: disgust,happiness,others,surprise,repression, as in the published training code].",
        ),
    ] = None,
    k_s: Annotated[float, typer.Option("--k-s", help="Seconds between the frames of a pair.")] = 0.1,
    k_prime_s: Annotated[
        float | None,
        typer.Option("--k-prime-s", help="Half an expected expression, seconds; SAMM-LV 0.185, CAS(ME)2 0.2 [0.2]."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the model [that of OUT].")] = None,
    trained_on: Annotated[str, typer.Option(help="Training data, for the model's metadata.")] = "not stated",
    licence: Annotated[str | None, typer.Option(help="Terms of use, for the model's metadata.")] = None,
    only_trained: Annotated[
        bool,
        typer.Option("--only-trained", help="Average the emotions over the files whose recognition head was trained."),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
    json_file: JsonOption = None,
) -> None:
    """Turn published Keras weights of MEAN into one ONNX model that --model takes."""
    from megc_stream.models import ImportOptions, import_mean

    options: dict[str, Any] = {} if licence is None else {"licence": licence}
    result = import_mean(
        weights,
        out,
        ImportOptions(
            name=name or out.stem,
            classes=None if classes is None else tuple(part.strip() for part in classes.split(",")),
            k_s=k_s,
            k_prime_s=k_prime_s,
            trained_on=trained_on,
            only_trained=only_trained,
            **options,
        ),
        overwrite=overwrite,
    )
    _report(result, json_file)


@app.command("fetch", epilog="Example: megc-stream models fetch mean-samm-lv")
def fetch_command(
    name: Annotated[str, typer.Argument(help="A fetchable model of 'models list'.")],
    to: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where to put it [the cache, where --model NAME finds it].")
    ] = None,
    given: Annotated[
        Path | None, typer.Option("--from", metavar="FOLDER", help="Import files fetched by hand; download nothing.")
    ] = None,
    fold: Annotated[
        str | None, typer.Option(metavar="sN", help="This fold alone instead of the average of all.")
    ] = None,
    k_prime_s: Annotated[
        float | None, typer.Option("--k-prime-s", help="Half an expected expression, seconds [the registry's].")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Fetch and import again.")] = False,
    json_file: JsonOption = None,
) -> None:
    """Fetch the published weights of MEAN for a data set from their repository and import them."""
    from megc_stream.cli.progress import CountProgress
    from megc_stream.models import fetch_mean, fetchable, fetched_path, fold_of

    entry = fetchable(name)
    number = None if fold is None else fold_of(fold, entry)
    path = fetched_path(entry, number, to)
    if path.is_file() and not overwrite:
        note(f"already there; --overwrite fetches it again: {path}")
        report_json(json_file, {"name": path.stem, "path": str(path), "fetched": False})
        if json_file != "-":
            say(str(path))
        return
    note(f"{entry.name}: weights of MEAN from {entry.source}")
    note(f"licence: {entry.licence}; megc-stream does not ship them and fetches them because you asked")
    unknown = (1 if number else entry.folds) - sum(number in (None, int(stem[1:])) for stem in entry.fold_sha256)
    if unknown and given is None:
        note(f"{unknown} of the files have no known checksum: the first download is trusted, and its checksum recorded")
    with CountProgress("fetching", "files") as progress:
        result = fetch_mean(
            entry, folder=to, given=given, fold=number, k_prime_s=k_prime_s, overwrite=overwrite, progress=progress
        )
    if number is None:
        note(
            f"each of the {entry.folds} averaged networks has seen the other persons: scores on {entry.trained_on} "
            "with this model are not leave-one-subject-out (--fold sN gives single networks)"
        )
    _report(result, json_file, fetched=True)


def _report(result: ImportedMean, json_file: str | None, **more: bool) -> None:
    import msgspec

    for warning in result.warnings:
        warn(warning)
    report_json(json_file, {**msgspec.to_builtins(result, enc_hook=str), **more})
    if json_file != "-":
        note(
            f"{result.networks} network{'s' if result.networks > 1 else ''}, classes {', '.join(result.classes)}; "
            f"k {result.k_s:g} s, k' {result.k_prime_s:g} s; outputs within {result.difference:.0e} of the weights'"
        )
        say(str(result.path))


def _place(model: str) -> tuple[str, Path]:
    """Return name and file of an installed model or of an .onnx file."""
    from megc_stream.models import find_mean, installed_models

    path = installed_models().get(model) or find_mean(model)
    return path.stem, path


def _describe(model: str) -> dict[str, Any]:
    from megc_stream.models import OnnxModel, card_text, entries, installed_models, sha256_of

    entry = entries().get(model.partition("-fold-")[0])
    known = _of_entry(entry)
    if entry is not None and entry.folds and model not in installed_models():
        return {**known, "name": model, "state": "fetchable"}
    name, path = _place(model)
    opened = OnnxModel(path)
    return {
        **known,
        "name": name,
        "state": "installed",
        "path": str(path),
        "sha256": sha256_of(path),
        "inputs": {key: [str(size) for size in shape] for key, shape in opened.inputs.items()},
        "outputs": {key: [str(size) for size in shape] for key, shape in opened.outputs.items()},
        **_of_metadata(path, opened.metadata),
        "metadata": opened.metadata,
        "card": card_text(path),
    }


def _of_entry(entry: ModelEntry | None) -> dict[str, Any]:
    """Return what the registry says of a model, with the addresses of its weight files."""
    import msgspec

    if entry is None:
        return {}
    fields: dict[str, Any] = msgspec.to_builtins(entry)
    fields["addresses"] = list(entry.addresses().values())
    return fields


def _of_metadata(path: Path, metadata: dict[str, str]) -> dict[str, Any]:
    """Return what a MEAN file says of itself; nothing for other models."""
    import msgspec

    if "classes" not in metadata:
        return {}
    from megc_stream.models import MeanModel

    return {
        key: value for key, value in msgspec.to_builtins(MeanModel(path).info).items() if key not in ("name", "sha256")
    }


_TITLES = {
    "name": "name",
    "state": "state",
    "task": "task",
    "path": "file",
    "sha256": "SHA-256",
    "source": "source",
    "address": "weight files",
    "licence": "licence",
    "paper": "paper",
    "trained_on": "trained on",
    "k_s": "k, s",
    "k_prime_s": "k', s",
}


def _print(found: dict[str, Any]) -> None:
    metadata = found.get("metadata", {})
    for key, title in _TITLES.items():
        value = found.get(key) or metadata.get(key)
        if value:
            say(f"{title:12} {value}")
    if found.get("classes"):
        origin = f" ({metadata['classes_from']})" if "classes_from" in metadata else ""
        say(f"{'classes':12} {', '.join(found['classes'])}{origin}")
    if found.get("folds"):
        say(
            f"{'files':12} s1.hdf5 to s{found['folds']}.hdf5, one per left-out person; checksums known of "
            f"{len(found['fold_sha256'])}"
        )
        if not found.get("k_prime_s"):
            say("k', s        not published as a number: fetch assumes one, or takes --k-prime-s")
    for score in found.get("scores", ()):
        say(
            f"{'published':12} {score['data']}: spotting F1 {score['spotting_f1']:.3f}, "
            f"recognition F1 {score['recognition_f1']:.3f}, STRS {score['strs']:.3f} (leave-one-subject-out)"
        )
    for key, title in (("k_prime_from", "k' is"), ("networks", "networks"), ("note", "note")):
        if key in metadata:
            say(f"{title:12} {metadata[key]}")
    untrained = json.loads(metadata.get("recognition_untrained", "[]"))
    if untrained:
        say(
            f"{'untrained':12} recognition heads of {', '.join(untrained)}; emotions averaged over "
            f"{metadata['recognition_averaged_over']} networks"
        )
    if found["state"] == "fetchable":
        say(f"not fetched; 'megc-stream models fetch {found['name']}' does it")
    if found.get("card"):
        say()
        say(found["card"].rstrip())
