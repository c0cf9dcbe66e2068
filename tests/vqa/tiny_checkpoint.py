"""A checkpoint of the architecture Qwen2.5-VL with random weights, small enough for tests (2 MB): made, not downloaded.

    python tests/vqa/tiny_checkpoint.py FOLDER

Runs in the environment of the server (torch, transformers, tokenizers). The same seed gives the same weights.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
)
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

VOCABULARY = 768
HIDDEN = 64
HEADS = 2
HEAD_SIZE = HIDDEN // HEADS  # 32: the smallest that the CPU attention of vLLM takes

# In the order of the published tokenizer; the parts of a prompt that are not text.
SPECIAL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>"),
    *("<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>"),
    *("<|image_pad|>", "<|video_pad|>"),
)

# How the published tokenizer cuts text into words before it looks for pairs of bytes.
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# Text like that of the prompts, so that they take few tokens.
TEXTS = (
    "system user assistant Answer as JSON, each one of the following, whole number, exactly one action unit is shown.",
    "What is the coarse expression class? What is the fine-grained expression class? negative, positive, surprise",
    "anger, contempt, disgust, fear, happiness, repression, sadness, surprise, micro-expression, macro-expression",
    "What is the action unit? What are the action units? Two or more action units are shown on the left or right face",
    "inner brow raiser, outer brow raiser, brow lowerer, upper lid raiser, cheek raiser, lid tightener, nose wrinkler,",
    "upper lip raiser, lip corner puller, dimpler, lip corner depressor, lower lip depressor, chin raiser,",
    "lip stretcher, neck tightener, lip tightener, lip pressor, lips part, jaw drop, jaw clencher, nostril dilater,",
    '{"coarse": "negative"} {"fine": "happiness"} {"action_units": ["brow lowerer"]} {"count": 3} {"shown": "yes"}',
    "The face at the onset of the expression, at its apex, at its offset, ms after the onset, optical flow, motion, px",
)

TEMPLATE = """{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\\n' -}}
{%- if message.content is string -%}{{- message.content -}}
{%- else -%}
{%- for part in message.content -%}
{%- if part.type in ('image', 'image_url') -%}{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}
{%- elif part.type in ('video', 'video_url') -%}{{- '<|vision_start|><|video_pad|><|vision_end|>' -}}
{%- else -%}{{- part.text -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"""


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Return a byte-level tokenizer of the published kind; every number below the vocabulary's size is a token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(SPECIAL),
        min_frequency=1,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    missing = VOCABULARY - len(SPECIAL) - tokenizer.get_vocab_size()
    names = [*SPECIAL, *(f"<|unused_{number}|>" for number in range(missing))]
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(SPECIAL[1:]),
        model_max_length=8192,
        clean_up_tokenization_spaces=False,
    )
    wrapped.chat_template = TEMPLATE
    return wrapped


def make_model(token: dict[str, int]) -> Qwen2_5_VLForConditionalGeneration:
    """Return the network with random weights, float32; ``token`` has the numbers of the special tokens."""
    ends = {
        "bos_token_id": token["<|endoftext|>"],
        "eos_token_id": token["<|im_end|>"],
        "pad_token_id": token["<|endoftext|>"],
    }
    config = Qwen2_5_VLConfig(
        architectures=["Qwen2_5_VLForConditionalGeneration"],
        text_config={
            "vocab_size": VOCABULARY,
            "hidden_size": HIDDEN,
            "intermediate_size": 2 * HIDDEN,
            "num_hidden_layers": 2,
            "num_attention_heads": HEADS,
            "num_key_value_heads": 1,
            "max_position_embeddings": 8192,
            "rms_norm_eps": 1e-6,
            "use_sliding_window": False,
            # The usual 0.02 leaves all tokens about equally likely at this size.
            "initializer_range": 0.1,
            # The sections share half of a head among time, height and width.
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [4, 6, 6]},
            **ends,
        },
        vision_config={
            "depth": 2,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_heads": 2,
            "in_channels": 3,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "tokens_per_second": 2,
            "window_size": 112,
            "out_hidden_size": HIDDEN,
            "fullatt_block_indexes": [1],
            "initializer_range": 0.1,
        },
        image_token_id=token["<|image_pad|>"],
        video_token_id=token["<|video_pad|>"],
        vision_start_token_id=token["<|vision_start|>"],
        vision_end_token_id=token["<|vision_end|>"],
        tie_word_embeddings=False,
        **ends,
    )
    model = Qwen2_5_VLForConditionalGeneration(config).to(torch.float32).eval()
    model.generation_config = GenerationConfig(
        eos_token_id=[token["<|im_end|>"], token["<|endoftext|>"]],
        bos_token_id=token["<|endoftext|>"],
        pad_token_id=token["<|endoftext|>"],
        do_sample=False,
    )
    return model


def make_processor(tokenizer: PreTrainedTokenizerFast) -> Qwen2_5_VLProcessor:
    """Return the processor of pictures and videos: 4 to 64 tokens each, normalised as published."""
    shared = {
        "size": {"shortest_edge": 4 * 28 * 28, "longest_edge": 64 * 28 * 28},
        "patch_size": 14,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    }
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(**shared),
        video_processor=Qwen2VLVideoProcessor(**shared, fps=2.0, min_frames=2, max_frames=16),
        tokenizer=tokenizer,
        chat_template=TEMPLATE,
    )


def make_checkpoint(folder: Path, seed: int = 0) -> None:
    """Write the checkpoint into a folder, as a server loads it."""
    torch.manual_seed(seed)
    tokenizer = make_tokenizer()
    assert len(tokenizer) == VOCABULARY, len(tokenizer)
    model = make_model({name: tokenizer.convert_tokens_to_ids(name) for name in SPECIAL})
    model.save_pretrained(folder)
    make_processor(tokenizer).save_pretrained(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    make_checkpoint(options.folder, options.seed)
