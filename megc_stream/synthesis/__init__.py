"""Ground-truthed clips: faces that make known micro-expressions, drawn from a portrait or planted into real footage."""

from megc_stream.synthesis.clips import synth_clip
from megc_stream.synthesis.inject import synth_inject
from megc_stream.synthesis.plan import ClipPlan, PlannedEvent, plan_clip
from megc_stream.synthesis.rendering import ClipRenderer, render_clip, true_displacement
from megc_stream.synthesis.truth import TruthRow, read_truth, write_truth

__all__ = [
    "ClipPlan",
    "ClipRenderer",
    "PlannedEvent",
    "TruthRow",
    "plan_clip",
    "read_truth",
    "render_clip",
    "synth_clip",
    "synth_inject",
    "true_displacement",
    "write_truth",
]
