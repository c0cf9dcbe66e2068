"""How the models are made: MEAN in torch, its training data from portraits set in motion, the ONNX file and its card.

Nothing here is needed to analyse recordings. Training needs the extra ``train`` (torch, onnx).
"""

from megc_stream.training.synthetic import TrainedFile, train_synthetic

__all__ = ["TrainedFile", "train_synthetic"]
