"""Checks of the training's parts, run by test_vqa_lora_live.py in the environment that has torch and transformers.

python tests/vqa/lora_checks.py CHECKPOINT FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
from made_material import make_material
from safetensors import safe_open
from transformers import AutoProcessor

from megc_stream.training.vqa_lora import LoraOptions, encode, media_of, train_adapter
from megc_stream.vqa.prompts import build_messages

QUESTION = "What is the coarse expression class?"
ANSWER = '{"coarse":"positive"}'
MATERIAL = make_material(count=16)


class Lessons:
    def __init__(self) -> None:
        self.inputs = (("video",), ("oao",), ("flow",), ("oao", "flow"))

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> tuple[list[dict], str]:
        return build_messages(QUESTION, "coarse", self.inputs[index], MATERIAL).messages, ANSWER


def check_labels(checkpoint: Path) -> None:
    """The labels are the answer and the end of the turn, nothing of the prompt and of the media."""
    processor = AutoProcessor.from_pretrained(checkpoint)
    lessons = Lessons()
    for index in range(len(lessons)):
        messages, answer = lessons[index]
        inputs = encode(processor, messages, answer)
        labels = inputs["labels"][0]
        supervised = labels[labels >= 0]
        assert processor.tokenizer.decode(supervised) == f"{ANSWER}<|im_end|>"
        # At the end, in one piece, and equal to what the model reads there.
        assert (labels[-len(supervised) :] == inputs["input_ids"][0, -len(supervised) :]).all()
        assert (labels[: -len(supervised)] == -100).all()
        assert inputs["input_ids"].shape == inputs["labels"].shape == inputs["attention_mask"].shape
        assert processor.tokenizer.decode(inputs["input_ids"][0]).endswith(f"assistant\n{ANSWER}<|im_end|>")
    video = encode(processor, *lessons[0])
    assert video["video_grid_thw"].tolist() == [[8, 16, 16]]
    assert abs(float(video["second_per_grid_ts"][0]) - 2 / 100) < 1e-3  # 100 frames a second, two a grid


def check_media() -> None:
    """What is trained on is what the files hold."""
    lessons = Lessons()
    (film,) = media_of(lessons[0][0]).videos
    assert film.shape == (16, 224, 224, 3) and film.dtype == np.uint8
    first = cv2.resize(MATERIAL.images[0], (224, 224), interpolation=cv2.INTER_CUBIC).astype(int)
    assert np.abs(film[0, :, :, 0].astype(int) - first).mean() < 4
    pictures = media_of(lessons[1][0]).images
    assert len(pictures) == 3 and (pictures[0][:, :, 0] == first).all()


def check_adapter(checkpoint: Path, folder: Path) -> None:
    """The language model's projections are adapted, the vision tower is not; the same seed gives the same bytes."""
    weights = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        options = LoraOptions(rank=4, epochs=1, batch=4, learning_rate=0.01, seed=seed, device="cpu")
        trained = train_adapter(Lessons(), checkpoint, folder / name, options, key="k")
        file = trained.folder / "adapter_model.safetensors"
        weights.append(file.read_bytes())
        with safe_open(file, "np") as stored:
            names = list(stored.keys())
        assert len(names) == 2 * 7 * 2 and not [one for one in names if "visual" in one]
        assert trained.steps == 1 and trained.supervised_tokens > 0
    assert weights[0] == weights[1] != weights[2]


if __name__ == "__main__":
    tiny, out = Path(sys.argv[1]), Path(sys.argv[2])
    check_labels(tiny)
    check_media()
    check_adapter(tiny, out)
