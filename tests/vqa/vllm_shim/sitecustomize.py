"""For vLLM on CPU: let the package index's torchvision, a CUDA build, be imported beside the CPU build of torch.

Put this folder on PYTHONPATH; child processes inherit it. torchvision's compiled part cannot be loaded without CUDA;
its Python part needs no more of it, at import, than that the operators nms and qnms are declared. So they are declared
just before torchvision is imported, if its compiled part does not load. Resizing pictures is plain torch.
"""

import importlib.abc
import importlib.machinery
import sys
from pathlib import Path


class DeclareOperators(importlib.abc.MetaPathFinder):
    """Finds torchvision as usual, after declaring the operators that its compiled part should have brought."""

    def find_spec(self, name, path=None, target=None):
        if name != "torchvision":
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None and spec.origin is not None:
            self._declare(Path(spec.origin).parent)
        return spec

    @staticmethod
    def _declare(folder):
        import torch

        try:
            for library in folder.glob("_C*.so"):
                torch.ops.load_library(str(library))
                return
        except OSError:
            pass
        for operator in ("nms", "qnms"):
            torch.library.define(
                f"torchvision::{operator}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            )


sys.meta_path.insert(0, DeclareOperators())
