"""``megc-stream vqa``: questions about clips and videos, and the server that may answer them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from megc_stream.cli.options import ConfigOption, JsonOption

if TYPE_CHECKING:
    from collections.abc import Sequence

    from megc_stream.settings import Settings

__all__ = ["app"]

app = typer.Typer(help="Ask questions about clips and videos; serve a vision-language model.", no_args_is_help=True)

_InputOption = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="video|oao|flow",
        help="What a served model is shown: video, onset-apex-offset pictures, flow picture; repeatable, or joined "
        "by + [oao+flow].",
    ),
]
_ServerOption = Annotated[
    str | None,
    typer.Option(
        "--server",
        metavar="URL",
        help="OpenAI-compatible server, e.g. http://127.0.0.1:8000/v1 [answers are measured].",
    ),
]
_ModelOption = Annotated[
    str | None, typer.Option("--model", metavar="NAME", help="Model or LoRA on the server [the only one].")
]
_RedactOption = Annotated[
    bool | None, typer.Option("--redact-eyes/--eyes", help="Black out the eyes in what the server is shown [no].")
]
_TimeoutOption = Annotated[
    float | None, typer.Option("--timeout", metavar="SECONDS", help="Seconds that the server has for a question [30].")
]
_FpsOption = Annotated[
    float | None, typer.Option(help="Frames per second of folders of images [the data set's, else 30].")
]


@app.command("ask", epilog='Example: megc-stream vqa ask clip.mp4 --question "What are the action units?"')
def ask(
    clip: Annotated[str, typer.Argument(help="Video file or folder of images that shows one expression, or many.")],
    question: Annotated[
        list[str] | None, typer.Option("--question", "-q", help="A question; repeatable [those of the settings].")
    ] = None,
    input_: _InputOption = None,
    server: _ServerOption = None,
    model: _ModelOption = None,
    redact_eyes: _RedactOption = None,
    timeout: _TimeoutOption = None,
    dataset: Annotated[
        str, typer.Option(metavar="NAME", help="Whose fine-grained classes: samm, casme2, casme3 [all].")
    ] = "",
    fps: _FpsOption = None,
    config: ConfigOption = None,
    json_file: JsonOption = None,
) -> None:
    """Answer questions about a clip, or about a long video where they are about the events in it.

    Measured by the pipeline; with --server, by the model there, and the measured answer stands where it gives none.
    """
    from megc_stream.cli.vqa_runs import ask_command

    settings = _settings(config, server, model, input_, redact_eyes, timeout, fps, question)
    ask_command(clip, settings, dataset=dataset, json_file=json_file)


@app.command(
    "run", epilog="Example: megc-stream vqa run me_vqa_samm_test_to_answer.jsonl --frames test --out pred.jsonl"
)
def run(
    questions: Annotated[Path, typer.Argument(help="The challenge's file of questions, ME-VQA or ME-LVQA.")],
    frames: Annotated[Path, typer.Option("--frames", metavar="ROOT", help="Folder below which the clips lie.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The same rows with answers, when all are done.")],
    input_: _InputOption = None,
    server: _ServerOption = None,
    model: _ModelOption = None,
    redact_eyes: _RedactOption = None,
    timeout: _TimeoutOption = None,
    fps: _FpsOption = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Begin anew, whatever other settings have answered before.")
    ] = False,
    config: ConfigOption = None,
    json_file: JsonOption = None,
) -> None:
    """Answer a file of questions. Killed or stopped, the same command goes on from there.

    Each answer, with what it rests on, is written at once to FILE.details.jsonl. 'megc-stream submit' takes FILE.
    """
    from megc_stream.cli.vqa_runs import run_command

    settings = _settings(config, server, model, input_, redact_eyes, timeout, fps, None)
    run_command(questions, frames, out, settings, overwrite=overwrite, json_file=json_file)


@app.command("serve", epilog="Example: megc-stream vqa serve --model Qwen/Qwen2.5-VL-3B-Instruct --dry-run")
def serve(
    model: Annotated[
        str, typer.Option("--model", metavar="NAME|FOLDER", help="Repository name, or folder of a checkpoint.")
    ] = "Qwen/Qwen2.5-VL-3B-Instruct",
    lora: Annotated[
        list[str] | None, typer.Option("--lora", metavar="NAME=FOLDER", help="Adapter to serve as NAME; repeatable.")
    ] = None,
    vllm: Annotated[Path | None, typer.Option("--vllm", metavar="FILE", help="The vllm program [on PATH].")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; beyond loopback only with a key.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
    name: Annotated[str | None, typer.Option(help="Name under which the model is served [--model].")] = None,
    revision: Annotated[str | None, typer.Option(help="Commit of the repository, to pin what is served.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Fetch nothing: what is in the cache must do.")] = False,
    length: Annotated[int, typer.Option("--max-model-len", min=512, help="Tokens of prompt and answer.")] = 8192,
    images: Annotated[int, typer.Option(min=1, max=64, help="Pictures that a prompt may have.")] = 4,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "--print", help="Print the line and what was checked; start nothing.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Start although a check speaks against it.")] = False,
    extra: Annotated[list[str] | None, typer.Argument(help="Further options of 'vllm serve', after --.")] = None,
    config: ConfigOption = None,
    json_file: JsonOption = None,
) -> None:
    """Check vLLM's version and the memory, print the 'vllm serve' line, and become it."""
    from megc_stream.cli.vqa_serving import ServeOptions, serve_command
    from megc_stream.settings import load_settings

    options = ServeOptions(
        model=model,
        lora=_adapters(lora or []),
        vllm=vllm,
        host=host,
        port=port,
        name=name,
        revision=revision,
        offline=offline,
        length=length,
        images=images,
        extra=extra or (),
    )
    serve_command(options, load_settings(config).vqa, dry_run=dry_run, force=force, json_file=json_file)


def _settings(
    config: Path | None,
    server: str | None,
    model: str | None,
    inputs: Sequence[str] | None,
    redact_eyes: bool | None,
    timeout_s: float | None,
    fps: float | None,
    questions: Sequence[str] | None,
) -> Settings:
    from megc_stream.settings import load_settings
    from megc_stream.vqa.media import parse_inputs

    overrides: dict[str, Any] = {
        "capture": {"fps": fps},
        "vqa": {
            "answerer": server,
            "model": model,
            "inputs": parse_inputs("+".join(inputs)) if inputs else None,
            "redact_eyes": redact_eyes,
            "timeout_s": timeout_s,
            "questions": tuple(questions) if questions else None,
        },
    }
    return load_settings(config, overrides)


def _adapters(texts: Sequence[str]) -> dict[str, Path]:
    from megc_stream.errors import UsageError

    adapters: dict[str, Path] = {}
    for text in texts:
        name, equals, folder = text.partition("=")
        if not equals or not name or not folder:
            raise UsageError(f"--lora {text}: expected NAME=FOLDER")
        if name in adapters:
            raise UsageError(f"--lora {text}: a second adapter of this name")
        adapters[name] = Path(folder)
    return adapters
