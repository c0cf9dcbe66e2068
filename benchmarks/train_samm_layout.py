"""Training on recordings, end to end: a corpus in the layout of SAMM Long Videos is generated and trained on.

    python benchmarks/train_samm_layout.py PORTRAITS WORK [--persons 8] [--jobs 2] [--augment ...]

Writes the corpus to WORK/corpus (kept between runs), features to WORK/cache and networks to WORK/<augment>, by
``megc-stream train mean``, one subject left out at a time; prints the scores of both modes. Asked for: F1 of spotting
of at least 0.5 with the published post-processing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "training"))

from samm_layout import write_samm_layout

from megc_stream.training.corpus import find_portraits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("portraits", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--persons", type=int, default=8)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--augment", default="mirror,scale,rate,negatives")
    parser.add_argument("--folds", default="all")
    parser.add_argument("--epoch-pairs", type=int, default=6144)
    arguments = parser.parse_args()
    corpus, began_s = arguments.work / "corpus", time.perf_counter()
    if not corpus.is_dir():
        part = corpus.with_name("corpus.part")
        portraits = list(find_portraits(arguments.portraits).values())[: arguments.persons]
        count = write_samm_layout(part, portraits, progress=lambda done, total: print(f"recording {done} of {total}"))
        part.rename(corpus)
        print(f"{count} events in {time.perf_counter() - began_s:.0f} s")
    began_s = time.perf_counter()
    out = arguments.work / arguments.augment.replace(",", "-")
    words = ["train", "mean", "--data", f"samm-lv:{corpus}", "--out", out, "--cache", arguments.work / "cache"]
    words += ["--jobs", arguments.jobs, "--augment", arguments.augment, "--folds", arguments.folds]
    words += ["--epoch-pairs", arguments.epoch_pairs]
    subprocess.run([sys.executable, "-m", "megc_stream", *map(str, words)], check=True)
    print(f"{time.perf_counter() - began_s:.0f} s")
    table = json.loads((out / "results.json").read_text(encoding="utf-8"))
    print(json.dumps({"pooled": table["pooled"], "recognition": table["recognition_of_annotated"]}, indent=1))


if __name__ == "__main__":
    main()
