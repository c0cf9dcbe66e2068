"""Low-rank adapters (LoRA) of a vision-language model, trained on questions with answers.

Importing this module imports torch, transformers and peft, and raises
:class:`~megc_stream.errors.MissingExtraError` where one is absent; the other modules import it inside functions.

Only the language model's projections are adapted (Hu et al. 2022); the vision tower stays as it is. The loss is taken
over the answer alone: the tokens of the prompt and of the media are masked.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from megc_stream.errors import MissingExtraError, ModelError, OutputError, UsageError

try:
    import torch
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
    from transformers import AutoModelForImageTextToText, AutoProcessor
except ImportError as _error:
    raise MissingExtraError(_error.name or "peft", "train-vqa", "fine-tuning") from _error

__all__ = ["TARGETS", "Lessons", "LoraOptions", "TrainedAdapter", "encode", "media_of", "train_adapter"]

# The vision tower has projections of the same names: a list of names would take it in.
TARGETS = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"

_IGNORED = -100
_RUN, _WEIGHTS, _OPTIMISER = "run.json", "weights.pt", "optimiser.pt"
_KEPT_CHECKPOINTS = 2
_WARM_UP = 0.03
_MOST_GRADIENT = 1.0


@dataclass(frozen=True)
class LoraOptions:
    """How to train.

    Parameters
    ----------
    rank
        Of the adapter; its weight is alpha / rank = 2.
    epochs, batch
        Passes over the lessons, and lessons of one step of the optimiser.
    learning_rate
        Of AdamW at its highest: it rises over the first 3 % of the steps, and falls along a cosine to 0.
    seed
        Of the adapter's weights and the order of the lessons.
    device
        "cpu", "cuda", or "auto": CUDA where there is one.
    save_every
        Steps between two checkpoints.
    """

    rank: int = 8
    epochs: int = 3
    batch: int = 8
    learning_rate: float = 2e-4
    seed: int = 0
    device: str = "auto"
    save_every: int = 50


@dataclass(frozen=True)
class TrainedAdapter:
    """The folder of the adapter, and what the training was like.

    ``losses`` and ``accuracies`` are those of each epoch: the mean over the answers' tokens, and the share of them that
    were the likeliest; ``supervised_tokens`` counts them in one epoch. ``kept``: it was there already.
    """

    folder: Path
    steps: int
    resumed_at: int
    losses: tuple[float, ...]
    accuracies: tuple[float, ...]
    supervised_tokens: int
    kept: bool


class Lessons(Protocol):
    """What is trained on: messages of the OpenAI API, media included, and the answer to them."""

    def __len__(self) -> int:
        """Return how many there are."""
        ...

    def __getitem__(self, index: int, /) -> tuple[list[dict[str, Any]], str]:
        """Return messages and answer."""
        ...


@dataclass(frozen=True)
class _Media:
    """Messages in the processor's form, with the pictures and videos that they name, in their order."""

    messages: list[dict[str, Any]]
    images: list[NDArray[np.uint8]]
    videos: list[NDArray[np.uint8]]
    metadata: list[dict[str, Any]]


def media_of(messages: Sequence[Mapping[str, Any]]) -> _Media:
    """Take the media out of messages: RGB pictures (H, W, 3), and all frames of a video (T, H, W, 3) with its rate.

    The very bytes that a server is sent are decoded, so that a model is trained on what it will be asked with.
    """
    media = _Media([], [], [], [])
    for message in messages:
        content = message["content"]
        if not isinstance(content, str):
            content = [_part(part, media) for part in content]
        media.messages.append({"role": message["role"], "content": content})
    return media


def train_adapter(
    lessons: Lessons,
    model: Path,
    out: Path,
    options: LoraOptions,
    *,
    key: str,
    resume: bool = False,
    overwrite: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> TrainedAdapter:
    """Train an adapter, keeping checkpoints; a run that was interrupted and resumed gives the same adapter.

    Writes ``out/adapter`` (what a server loads) and ``out/checkpoints``.

    Parameters
    ----------
    lessons
        At least one.
    model
        Folder of the base model.
    out
        Made if absent.
    options
        See :class:`LoraOptions`.
    key
        What the lessons are made of: checkpoints of another key are not gone on from.
    resume
        Go on from the last checkpoint in ``out``, if there is one.
    overwrite
        Begin anew where there are checkpoints or an adapter.
    progress
        Called with what is done, how many steps, and of how many.

    Raises
    ------
    UsageError
        ``out`` holds an adapter or checkpoints, and neither ``resume`` nor ``overwrite`` is given; or they are of
        another run.
    ModelError
        The base model cannot be loaded, or none of its layers is adapted.
    OutputError
        Adapter or checkpoints cannot be written.
    """
    device = _device(options.device)
    steps_per_epoch = math.ceil(len(lessons) / options.batch)
    total = steps_per_epoch * options.epochs
    lasting = {name: value for name, value in asdict(options).items() if name not in ("device", "save_every")}
    run = json.dumps({"key": key, "lessons": len(lessons), **lasting}, sort_keys=True)
    checkpoints, folder = out / "checkpoints", out / "adapter"
    if overwrite:
        with _writing(out):
            for old in (checkpoints, folder):
                if old.exists():
                    shutil.rmtree(old)
    last = _to_go_on_from(checkpoints, folder, run, resume)
    if last == folder:
        return _finished(folder, kept=True)
    processor, base = _load(model, device)
    torch.manual_seed(options.seed)
    network = _adapted(base, options.rank, model)
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=options.learning_rate, weight_decay=0.0)
    # Of each epoch: the summed loss of the answers' tokens, how many were the likeliest, how many there were.
    sums = [[0.0, 0.0, 0.0] for _ in range(options.epochs)]
    first = 0
    if last is not None:
        first, sums = _restore(last, network, optimiser, device)
    network.train()
    if progress is not None:
        progress("steps", first, total)
    for step in range(first, total):
        epoch, place = divmod(step, steps_per_epoch)
        chosen = _order(len(lessons), options.seed, epoch)[place * options.batch : (place + 1) * options.batch]
        for group in optimiser.param_groups:
            group["lr"] = options.learning_rate * _share_of_rate(step, total)
        for index in chosen:
            messages, answer = lessons[int(index)]
            inputs = encode(processor, messages, answer, device)
            result = network(**inputs)
            (result.loss / len(chosen)).backward()
            _add(sums[epoch], result, inputs["labels"])
        torch.nn.utils.clip_grad_norm_(weights, _MOST_GRADIENT)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        if step + 1 < total and (step + 1) % options.save_every == 0:
            _save(checkpoints / f"step-{step + 1:06d}", network, optimiser, run, step + 1, sums)
        if progress is not None:
            progress("steps", step + 1, total)
    facts = {
        "run": run,
        "steps": total,
        "resumed_at": first,
        "losses": [loss / max(1.0, tokens) for loss, _, tokens in sums],
        "accuracies": [right / max(1.0, tokens) for _, right, tokens in sums],
        "supervised_tokens": int(sums[-1][2]),
    }
    with _writing(folder), _whole(folder) as part:
        network.save_pretrained(part)
        # A card with nothing filled in.
        (part / "README.md").unlink(missing_ok=True)
        (part / _RUN).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(checkpoints, ignore_errors=True)
    return _finished(folder, kept=False)


def encode(processor: Any, messages: Sequence[Mapping[str, Any]], answer: str, device: str = "cpu") -> dict[str, Any]:
    """Return the model's inputs, labels included, of one lesson.

    The prompt is encoded as a server does, up to the point where the model goes on; then come the tokens of the answer
    and of the end of a turn, and these alone are labels.
    """
    media = media_of(messages)
    text = processor.apply_chat_template(media.messages, tokenize=False, add_generation_prompt=True)
    more: dict[str, Any] = {"images": media.images} if media.images else {}
    if media.videos:
        more |= {"videos": media.videos, "video_metadata": media.metadata, "do_sample_frames": False}
    inputs = dict(processor(text=[text], return_tensors="pt", **more))
    tokenizer = processor.tokenizer
    tail = tokenizer(answer + tokenizer.eos_token, add_special_tokens=False, return_tensors="pt")["input_ids"]
    prompt = inputs["input_ids"]
    for name, value in inputs.items():
        if value.shape == prompt.shape and name != "input_ids":
            # The mask goes on with ones, marks of where media are with zeros.
            more_of_it = torch.ones_like(tail) if name == "attention_mask" else torch.zeros_like(tail)
            inputs[name] = torch.cat([value, more_of_it.to(value.dtype)], dim=1)
    inputs["input_ids"] = torch.cat([prompt, tail], dim=1)
    inputs["labels"] = torch.cat([torch.full_like(prompt, _IGNORED), tail], dim=1)
    return {name: value.to(device) for name, value in inputs.items()}


def _part(part: Mapping[str, Any], media: _Media) -> dict[str, Any]:
    if part["type"] == "text":
        return dict(part)
    url = part[part["type"]]["url"]
    data = base64.b64decode(url.partition(",")[2])
    if part["type"] == "image_url":
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        media.images.append(
            cast("NDArray[np.uint8]", cv2.cvtColor(cast("NDArray[np.uint8]", picture), cv2.COLOR_BGR2RGB))
        )
        return {"type": "image"}
    with av.open(io.BytesIO(data), "r") as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        fps = float(stream.average_rate or 1)
    media.videos.append(np.stack(frames).astype(np.uint8))
    media.metadata.append(
        {
            "fps": fps,
            "total_num_frames": len(frames),
            "duration": len(frames) / fps,
            "frames_indices": list(range(len(frames))),
        }
    )
    return {"type": "video"}


def _device(wanted: str) -> str:
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=wanted)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device {wanted}: not usable ({str(error).splitlines()[0]}); expected cpu or cuda") from error
    return wanted


def _load(model: Path, device: str) -> tuple[Any, Any]:
    if not (model / "config.json").is_file():
        raise ModelError(f"model {model}: holds no config.json; expected the folder of a checkpoint of Qwen2.5-VL")
    # Half precision halves the memory; on a CPU it would be slow.
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    try:
        # Never the network: the folder is all there is.
        processor = AutoProcessor.from_pretrained(model, local_files_only=True)
        base = AutoModelForImageTextToText.from_pretrained(model, dtype=dtype, local_files_only=True).to(device)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"model {model}: cannot be loaded ({str(error).splitlines()[0]})") from error
    return processor, base


def _adapted(base: Any, rank: int, model: Path) -> Any:
    config = LoraConfig(
        r=rank, lora_alpha=2 * rank, lora_dropout=0.0, bias="none", task_type="CAUSAL_LM", target_modules=TARGETS
    )
    try:
        network = get_peft_model(base, config)
    except ValueError as error:
        raise ModelError(f"model {model}: has no layers to adapt, {TARGETS}; expected Qwen2.5-VL") from error
    if base.device.type != "cpu":
        # Activations are computed twice instead of kept: a 7 B model fits beside them.
        base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        base.enable_input_require_grads()
        base.config.use_cache = False
    return network


def _order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(count)


def _share_of_rate(step: int, total: int) -> float:
    warm = max(1, round(_WARM_UP * total))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))


def _add(sums: list[float], result: Any, labels: Any) -> None:
    with torch.no_grad():
        wanted = labels[0, 1:]
        answered = wanted != _IGNORED
        likeliest = result.logits[0, :-1].argmax(dim=-1)
        count = int(answered.sum())
        sums[0] += float(result.loss) * count
        sums[1] += int((likeliest[answered] == wanted[answered]).sum())
        sums[2] += count


def _to_go_on_from(checkpoints: Path, folder: Path, run: str, resume: bool) -> Path | None:
    """Return the finished adapter or the last checkpoint of this very run; None where there is neither."""
    there = [folder] if folder.is_dir() else sorted(checkpoints.glob("step-*"))
    if not there:
        return None
    if not resume:
        what = "an adapter" if folder.is_dir() else "checkpoints"
        raise UsageError(f"{there[-1]}: there is {what} already; --resume goes on, --overwrite begins anew")
    if json.loads((there[-1] / _RUN).read_text(encoding="utf-8"))["run"] != run:
        raise UsageError(f"{there[-1]}: is of other data, another base model or other options; --overwrite begins anew")
    return there[-1]


def _finished(folder: Path, kept: bool) -> TrainedAdapter:
    facts = json.loads((folder / _RUN).read_text(encoding="utf-8"))
    return TrainedAdapter(
        folder=folder,
        steps=facts["steps"],
        resumed_at=facts["resumed_at"],
        losses=tuple(facts["losses"]),
        accuracies=tuple(facts["accuracies"]),
        supervised_tokens=facts["supervised_tokens"],
        kept=kept,
    )


def _save(folder: Path, network: Any, optimiser: Any, run: str, step: int, sums: list[list[float]]) -> None:
    with _writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _whole(folder) as part:
            torch.save(get_peft_model_state_dict(network), part / _WEIGHTS)
            torch.save(optimiser.state_dict(), part / _OPTIMISER)
            (part / _RUN).write_text(json.dumps({"run": run, "step": step, "sums": sums}), encoding="utf-8")
        for old in sorted(folder.parent.glob("step-*"))[:-_KEPT_CHECKPOINTS]:
            shutil.rmtree(old)


def _restore(folder: Path, network: Any, optimiser: Any, device: str) -> tuple[int, list[list[float]]]:
    facts = json.loads((folder / _RUN).read_text(encoding="utf-8"))
    set_peft_model_state_dict(network, torch.load(folder / _WEIGHTS, map_location=device, weights_only=True))
    optimiser.load_state_dict(torch.load(folder / _OPTIMISER, map_location=device, weights_only=True))
    return facts["step"], facts["sums"]


@contextlib.contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes ``folder`` when all is written: what is there is whole."""
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    yield part
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror or error}); free space or change --out"
        ) from error
