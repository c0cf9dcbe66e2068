"""Spotting: pairs of crops to scores, scores to intervals, causally or over a whole video."""

from megc_stream.spotting.causal import CausalSpotter
from megc_stream.spotting.features import mean_features
from megc_stream.spotting.spotter import Spotter
from megc_stream.spotting.whole_video import spot_video

__all__ = ["CausalSpotter", "Spotter", "mean_features", "spot_video"]
