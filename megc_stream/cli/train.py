"""``megc-stream train``: networks from a lab's recordings or portraits set in motion, and adapters that answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from megc_stream.cli.console import note, report_json, say
from megc_stream.cli.options import JsonOption
from megc_stream.errors import UsageError

if TYPE_CHECKING:
    from megc_stream.datasets import DataSet
    from megc_stream.training.augmentation import Augmentation
    from megc_stream.training.vqa_data import AskedClips

__all__ = ["app"]

app = typer.Typer(help="Train models (extras 'train', 'train-vqa').", no_args_is_help=True)

CacheOption = Annotated[Path | None, typer.Option(help="Folder that keeps features between runs [the user's cache].")]
JobsOption = Annotated[int, typer.Option(min=1, help="Processes.")]


@app.command("mean", epilog="Example: megc-stream train mean --data samm-lv:data/SAMMLV --out mean-samm --jobs 4")
def mean_command(
    data: Annotated[
        list[str],
        typer.Option(
            metavar="LAYOUT:ROOT", help="Annotated recordings, e.g. samm-lv:ROOT or plain:ROOT; repeatable, pooled."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the networks, results.json and the card.")],
    classes: Annotated[
        str,
        typer.Option(metavar="A,B,C", help="Emotion classes: as annotated, or the challenge's own."),
    ] = "negative,positive,surprise",
    augment: Annotated[
        str,
        typer.Option(
            metavar="A,B",
            help="mirror: mirrored faces; scale: motion 0.7 to 1.5 times as strong; rate: pairs of lower frame rates; "
            "negatives: rendered blinks and speech; none: as published.",
        ),
    ] = "mirror,scale,rate,negatives",
    folds: Annotated[str, typer.Option(metavar="N|all", help="Train the first N folds only, for a trial.")] = "all",
    epochs_spot: Annotated[int, typer.Option(min=1, help="Epochs of spotting.")] = 10,
    epochs_recog: Annotated[int, typer.Option(min=1, help="Epochs of recognition.")] = 100,
    epoch_pairs: Annotated[
        int | None, typer.Option(min=32, help="Pairs that an epoch of spotting takes, drawn anew [all].")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same weights.")] = 0,
    jobs: JobsOption = 1,
    cache: CacheOption = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace other networks in --out.")] = False,
    json_file: JsonOption = None,
) -> None:
    """Train MEAN on annotated recordings by the published protocol, leaving one subject out at a time.

    An interrupted run goes on where it stopped when the command is repeated.
    """
    import json

    from megc_stream.cli.progress import CountProgress
    from megc_stream.training import DataOptions, train_on_data
    from megc_stream.training.train import PUBLISHED

    options = DataOptions(
        classes=_names(classes),
        seed=seed,
        augment=_augmentations(augment),
        folds=_count(folds),
        settings=replace(PUBLISHED, spot_epochs=epochs_spot, recog_epochs=epochs_recog),
        epoch_pairs=epoch_pairs,
    )
    sets = [_read(text) for text in data]
    with CountProgress("training", "steps") as progress:
        result = train_on_data(
            sets, out, options, cache=cache, jobs=jobs, overwrite=overwrite, progress=progress.by_steps()
        )
    if result.kept:
        note(f"{result.kept} networks were there already")
    table = json.loads(result.results.read_text(encoding="utf-8"))
    report_json(json_file, table)
    if json_file == "-":
        return
    for mode, scopes in table["pooled"].items():
        for scope, scores in scopes.items():
            say(
                f"{mode:6} {scope}: {scores['events']} events, TP {scores['tp']}, FP {scores['fp']}, "
                f"FN {scores['fn']}, F1 {scores['f1']:.3f} (ceiling of recall {scores['length_ceiling']:.2f}), "
                f"STRS {scores['strs']:.3f}"
            )
    say(str(result.model))


@app.command("synthetic", epilog="Example: megc-stream train synthetic --portraits portraits --out mean-mine.onnx")
def synthetic_command(
    portraits: Annotated[Path, typer.Option(help="Folder of frontal portraits, one or more per person.")],
    out: Annotated[Path, typer.Option(help="The ONNX file to write; its card goes beside it as .md.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed of clips, split and training.")] = 0,
    jobs: JobsOption = 1,
    cache: CacheOption = None,
) -> None:
    """Train MEAN on synthetic clips of portraits, score it on persons it never saw, write model and card."""
    from megc_stream.cli.progress import CountProgress
    from megc_stream.training import train_synthetic

    with CountProgress("training", "steps") as progress:
        train_synthetic(portraits, out, seed=seed, jobs=jobs, cache=cache, progress=progress.by_steps())
    say(str(out))


@app.command(
    "vqa",
    epilog="Example: megc-stream train vqa --data me_vqa_samm_casme2_smic.jsonl --frames data --model Qwen2.5-VL-3B "
    "--out vqa-lora --hold-out 5",
)
def vqa_command(
    data: Annotated[
        list[str],
        typer.Option(
            metavar="FILE|LAYOUT:ROOT",
            help="A file of questions with answers, or annotated recordings, e.g. samm-lv:ROOT; repeatable, pooled.",
        ),
    ],
    model: Annotated[Path, typer.Option(help="Folder of the base model, a checkpoint of Qwen2.5-VL.")],
    out: Annotated[Path, typer.Option(help="Folder of the adapter and of what is needed to test it.")],
    more: Annotated[
        list[str] | None, typer.Argument(metavar="[FILE]...", help="Further --data, as a shell's * puts them.")
    ] = None,
    frames: Annotated[Path | None, typer.Option(help="Folder that holds the clips of the question files.")] = None,
    inputs: Annotated[
        str,
        typer.Option(
            metavar="A,B", help="What is shown: video, oao (onset, apex, offset), flow, or oao+flow and so on."
        ),
    ] = "video,oao,flow",
    hold_out: Annotated[
        str,
        typer.Option(metavar="N|NAMES", help="Persons not to train on, to test with: how many, or their names."),
    ] = "",
    long_videos: Annotated[
        bool, typer.Option(help="Of annotated recordings, ask about whole videos too; the spotter runs over them.")
    ] = True,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over all questions.")] = 3,
    rank: Annotated[int, typer.Option(min=1, max=512, help="Rank of the adapter.")] = 8,
    batch: Annotated[int, typer.Option(min=1, help="Questions of one step.")] = 8,
    learning_rate: Annotated[float, typer.Option(min=1e-8, max=1.0, help="Of AdamW, at its highest.")] = 2e-4,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same adapter.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    save_every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 50,
    redact_eyes: Annotated[bool, typer.Option("--redact-eyes", help="Black out the eyes in all media.")] = False,
    prompts: Annotated[str, typer.Option(help="Version of the prompts, or a .toml file.")] = "megc-1",
    jobs: JobsOption = 1,
    cache: Annotated[Path | None, typer.Option(help="Folder of prepared clips (face crops) [OUT/clips].")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where an interrupted run stopped.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an adapter that is in --out.")] = False,
    json_file: JsonOption = None,
) -> None:
    """Fine-tune a vision-language model by LoRA on questions with answers (extra 'train-vqa').

    The adapter is in OUT/adapter: 'megc-stream vqa serve --model MODEL --lora NAME=OUT/adapter' serves it by name.
    """
    from megc_stream.cli.progress import CountProgress
    from megc_stream.training.vqa_lora import LoraOptions
    from megc_stream.training.vqa_training import VqaOptions, train_vqa
    from megc_stream.vqa.media import parse_inputs

    options = VqaOptions(
        inputs=tuple(dict.fromkeys(parse_inputs(one) for one in inputs.split(","))),
        hold_out=hold_out.strip(),
        redact_eyes=redact_eyes,
        prompts=prompts,
    )
    lora = LoraOptions(
        rank=rank,
        epochs=epochs,
        batch=batch,
        learning_rate=learning_rate,
        seed=seed,
        device=device,
        save_every=save_every,
    )
    asked = _asked([*data, *(more or ())], frames, long_videos, seed)
    with CountProgress("training", "steps") as progress:
        trained = train_vqa(
            asked,
            model,
            out,
            options,
            lora,
            cache=cache,
            jobs=jobs,
            resume=resume,
            overwrite=overwrite,
            progress=progress.by_steps(),
        )
    for text in trained.notes:
        note(text)
    report_json(json_file, trained.facts)
    if json_file == "-":
        return
    facts = trained.facts
    say(
        f"{facts['lessons']} lessons of {len(facts['trained_on'])} persons, {facts['steps']} steps; "
        f"loss {facts['losses'][0]:.3f} -> {facts['losses'][-1]:.3f}, tokens right {facts['accuracies'][-1]:.1%}; "
        f"held out: {', '.join(facts['held_out']) or 'nobody'}"
    )
    say(str(trained.adapter))


def _asked(data: list[str], frames: Path | None, long_videos: bool, seed: int) -> list[AskedClips]:
    """Return the questions of files, pooled, and those of each annotated data set."""
    import glob

    from megc_stream.datasets import LAYOUTS
    from megc_stream.evaluation.tables import read_answers
    from megc_stream.training.vqa_data import annotated_examples, file_examples

    rows, asked = [], []
    for text in data:
        layout = text.partition(":")[0]
        if layout in LAYOUTS and ":" in text:
            asked.append(annotated_examples(_read(text), long_videos=long_videos, seed=seed))
            continue
        # A pattern in quotes, which no shell has filled in.
        for file in sorted(glob.glob(text)) if "*" in text else [text]:  # noqa: PTH207
            rows += read_answers(Path(file))
    if rows:
        if frames is None:
            raise UsageError("--frames is missing: question files name clips; expected the folder that holds them")
        asked.insert(0, file_examples(rows, frames))
    if not asked:
        raise UsageError(f"--data {data[0]}: there is no such file; expected a .jsonl file or LAYOUT:ROOT")
    return asked


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip().lower() for name in text.split(","))
    if len(set(names)) != len(names) or not all(names) or len(names) < 2:
        raise UsageError(f"--classes {text}: expected two or more different names, separated by commas")
    return names


def _augmentations(text: str) -> frozenset[Augmentation]:
    from megc_stream.training.augmentation import AUGMENTATIONS

    names = {name.strip() for name in text.split(",")}
    if names == {"none"}:
        return frozenset()
    if unknown := sorted(names.difference(AUGMENTATIONS)):
        raise UsageError(f"--augment {unknown[0]}: unknown; expected none, or some of {', '.join(AUGMENTATIONS)}")
    return frozenset(one for one in AUGMENTATIONS if one in names)


def _count(text: str) -> int | None:
    if text == "all":
        return None
    if not text.isdecimal():
        raise UsageError(f"--folds {text}: expected a number of folds, or all")
    return int(text)


def _read(text: str) -> DataSet:
    from megc_stream.datasets import read_dataset

    layout, colon, root = text.partition(":")
    if not colon or not root:
        raise UsageError(f"--data {text}: expected LAYOUT:ROOT, such as samm-lv:data/SAMMLV")
    data = read_dataset(layout, Path(root))
    errors = [finding for finding in data.findings if finding.level == "error"]
    if errors:
        note(
            f"{root}: {len(errors)} errors, the first in {errors[0].file}: {errors[0].message}; what is named there is "
            "left out, 'megc-stream datasets check' lists them"
        )
    return data
