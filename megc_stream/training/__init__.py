"""How the models are made: MEAN in torch, features of recordings and of portraits set in motion, ONNX file and card.

Nothing here is needed to analyse recordings. Training needs the extra ``train`` (torch).
"""

from megc_stream.training.data_sets import DataOptions, TrainedFolder, train_on_data
from megc_stream.training.synthetic import TrainedFile, train_synthetic

__all__ = ["DataOptions", "TrainedFile", "TrainedFolder", "train_on_data", "train_synthetic"]
