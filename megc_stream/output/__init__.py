"""What a run writes into its folder: event log, tables, run record and report."""

from megc_stream.output.event_log import EventLog, EventMerger
from megc_stream.output.report import ReportData, render_report
from megc_stream.output.report_chart import TruthInterval
from megc_stream.output.run_folder import prepare_folder
from megc_stream.output.run_record import RunStatus
from megc_stream.output.writer import RunModel, RunWriter

__all__ = [
    "EventLog",
    "EventMerger",
    "ReportData",
    "RunModel",
    "RunStatus",
    "RunWriter",
    "TruthInterval",
    "prepare_folder",
    "render_report",
]
