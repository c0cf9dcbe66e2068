"""Draw speed against error from the JSON of ``megc-stream bench flow``.

    python benchmarks/flow_picture.py flow.json [docs/flow-speed-error.png]

Needs matplotlib. Rows: sequences at 200 fps, and single pairs (local motion on a common shift). Columns: error over the
crop, and where the face moves. Shaded: as fast as the goal asks and no less exact than DualTVL1.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.text import Text
from matplotlib.transforms import Bbox

_PX = 128
# Colours of Okabe and Ito, which the colour-blind tell apart; markers tell the methods apart without colour.
_STYLES = {
    "tvl1solver warm": ("TVL1Solver, warm", "#D55E00", "*"),
    "tvl1solver cold": ("TVL1Solver, cold", "#E69F00", "P"),
    "opencv dual tvl1": ("DualTVL1", "#000000", "s"),
    "opencv farneback": ("Farneback", "#0072B2", "D"),
    "opencv dis ultrafast": ("DIS ultrafast", "#009E73", "v"),
    "opencv dis fast": ("DIS fast", "#56B4E9", "^"),
    "opencv dis medium": ("DIS medium", "#CC79A7", "o"),
}
_ROWS = (
    ("streaming", "sequences, 200 fps", 400),
    ("sway", "single pairs", 250),
)
_COLUMNS = (("error_px", "over the crop"), ("moving_error_px", "where the face moves"))
_INK = "#333333"
_GREEN = "#00674b"
# Where a label may stand: offset in points, alignment.
_PLACES = (
    (0, 8, "center", "bottom"),
    (9, 0, "left", "center"),
    (-9, 0, "right", "center"),
    (0, -8, "center", "top"),
    (6, 7, "left", "bottom"),
    (6, -7, "left", "top"),
    (-6, 7, "right", "bottom"),
    (-6, -7, "right", "top"),
)


def _panel(axes: Axes, methods: dict[str, dict[str, Any]], error: str, goal: int) -> None:
    dual = methods["opencv dual tvl1"]
    goal_ms = dual["ms_p50"] / goal
    axes.fill_between([0.02, goal_ms], 0, dual[error], color="#009E73", alpha=0.12, linewidth=0)
    words = f"{goal}x DualTVL1,\nno larger error"
    goal_text = axes.text(goal_ms * 0.93, dual[error] * 0.04, words, ha="right", va="bottom", fontsize=8, color=_GREEN)
    axes.axhline(dual[error], color="#999999", linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
    for name, one in methods.items():
        _, colour, marker = _STYLES[name]
        size = 150 if marker == "*" else 60
        axes.scatter(
            one["ms_p50"],
            one[error],
            s=size,
            color=colour,
            marker=marker,
            zorder=3 if marker == "*" else 4,
            linewidths=0,
        )
    _label(axes, methods, error, goal_text)


def _label(axes: Axes, methods: dict[str, dict[str, Any]], error: str, goal_text: Text) -> None:
    """Write each method's name beside its marker, at the first of eight places where it covers nothing."""
    axes.figure.draw_without_rendering()
    taken = [Bbox.from_bounds(*(axes.transData.transform((one["ms_p50"], one[error])) - 9), 18, 18)
             for one in methods.values()]  # fmt: skip
    taken.append(goal_text.get_window_extent())
    for name, one in methods.items():
        for x, y, across, up in _PLACES:
            text = axes.annotate(
                _STYLES[name][0],
                (one["ms_p50"], one[error]),
                xytext=(x, y),
                textcoords="offset points",
                ha=across,
                va=up,
                fontsize=9,
                color=_INK,
            )
            box = text.get_window_extent()
            if not any(box.overlaps(other) for other in taken) and axes.bbox.y0 < box.y0 and axes.bbox.x0 < box.x0:
                break
            text.remove()
        taken.append(box)


def draw(result: dict[str, Any], out: Path) -> None:
    """Draw the picture."""
    figures = next(one for one in result["sizes"] if one["size_px"] == _PX)
    plt.rcParams.update({"font.size": 10, "axes.edgecolor": "#888888", "text.color": _INK, "axes.labelcolor": _INK})
    picture, panels = plt.subplots(2, 2, figsize=(10.5, 8), sharex=True, sharey="col", layout="constrained")
    for row, (case, title, goal) in enumerate(_ROWS):
        for column, (error, where) in enumerate(_COLUMNS):
            axes = panels[row][column]
            largest = max(method[error] for one, *_ in _ROWS for method in figures["cases"][one].values())
            axes.set_ylim(0, 1.15 * largest)
            axes.set_xscale("log")
            axes.set_xlim(0.15, 1500)
            axes.set_xticks([0.3, 1, 3, 10, 30, 100, 300, 1000], ["0.3", "1", "3", "10", "30", "100", "300", "1000"])
            axes.xaxis.minorticks_off()
            axes.tick_params(colors=_INK, labelsize=9)
            axes.grid(color="#eeeeee", zorder=0)
            axes.spines[["top", "right"]].set_visible(False)
            axes.set_title(f"{title}: error {where}", loc="left", fontsize=10.5)
            _panel(axes, figures["cases"][case], error, goal)
            if column == 0:
                axes.set_ylabel("end-point error, px")
            if row == 1:
                axes.set_xlabel("time of a pair, ms (log scale)")
    settings, sequence = result["settings"], result["sequence"]
    picture.suptitle(
        f"Optical flow of {_PX}x{_PX} px face pairs with known motion, one thread\n\n", x=0.01, ha="left", fontsize=12.5
    )
    picture.text(
        0.01,
        0.963,
        f"local motion up to 2 px, head motion up to 2 px between pictures, noise of {sequence['noise_sigma']:g} grey "
        f"values, texture {settings['texture']}; {result['machine'].split(',')[0]}",
        fontsize=9,
        va="top",
    )
    picture.savefig(out, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("json", type=Path)
    parser.add_argument("picture", type=Path, nargs="?", default=Path("docs/flow-speed-error.png"))
    arguments = parser.parse_args()
    draw(json.loads(arguments.json.read_text(encoding="utf-8")), arguments.picture)


if __name__ == "__main__":
    main()
