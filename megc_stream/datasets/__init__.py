"""The challenge's data sets: recordings and annotations in one form, whatever their layout."""

from megc_stream.datasets.reading import LAYOUTS, find_recording, list_recordings, open_recording, read_dataset
from megc_stream.datasets.records import ActionUnit, Annotation, DataSet, Finding, Recording

__all__ = [
    "LAYOUTS",
    "ActionUnit",
    "Annotation",
    "DataSet",
    "Finding",
    "Recording",
    "find_recording",
    "list_recordings",
    "open_recording",
    "read_dataset",
]
