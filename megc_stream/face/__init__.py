"""Faces: detection, landmarks, a stabilised and aligned crop of every frame, and flags on its quality."""

from megc_stream.face.analyser import FaceAnalyser
from megc_stream.face.mesh import Detection, find_faces, locate_landmarks

__all__ = ["Detection", "FaceAnalyser", "find_faces", "locate_landmarks"]
