"""Recognition: the emotion of a detected expression."""

from megc_stream.recognition.recogniser import Recogniser, most_frequent_class

__all__ = ["Recogniser", "most_frequent_class"]
