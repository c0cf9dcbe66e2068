"""From settings to results: opens the sources, builds the stages, runs them, writes the folders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime
from functools import partial

import zmq

from megc_stream.capture import Source
from megc_stream.cli.collecting import what_is_loaded_left_alone
from megc_stream.cli.graph import Node, folder_of, nodes_of, stages_of
from megc_stream.cli.inputs import open_input
from megc_stream.cli.outputs import Outputs
from megc_stream.cli.results import Analysis
from megc_stream.cli.signals import stopping_on_signals
from megc_stream.clock import Clock, MonotonicClock
from megc_stream.errors import CaptureError, MegcError, UsageError
from megc_stream.face import FaceAnalyser
from megc_stream.models import MeanModel, find_mean
from megc_stream.output.report_chart import TruthInterval
from megc_stream.pipeline import Chain, Sink, Stage, run_chains
from megc_stream.pipeline.hosting import Desk
from megc_stream.pipeline.orders import Command
from megc_stream.recognition import Recogniser
from megc_stream.settings import Settings
from megc_stream.spotting import Spotter
from megc_stream.wire import authenticator, load_security

__all__ = ["Analysis", "analyse", "analyse_graph", "build_stage", "open_reader", "raise_problems"]

_MARGIN_S = 5.0


def analyse(
    settings: Settings,
    *,
    sinks: Sequence[Sink] = (),
    truth: Sequence[TruthInterval] | None = None,
    warn: Callable[[str], None] | None = None,
    clock: Clock | None = None,
) -> Analysis:
    """Analyse ``settings.source`` and write the results; see :func:`analyse_graph`.

    Raises
    ------
    MegcError
        Whatever keeps the analysis from running or finishing. Results up to then are on disk.
    """
    analyses = analyse_graph(settings, sinks=sinks, truth=truth, warn=warn, clock=clock)
    raise_problems(analyses)
    return analyses[0]


def analyse_graph(
    settings: Settings,
    *,
    sinks: Sequence[Sink] = (),
    truth: Sequence[TruthInterval] | None = None,
    warn: Callable[[str], None] | None = None,
    clock: Clock | None = None,
) -> list[Analysis]:
    """Analyse every source of the settings, with the runner they name, and write the results.

    Parameters
    ----------
    settings
        The whole configuration.
    sinks
        Get every record besides the files; with stages in other processes there are none.
    truth
        Known events, drawn in the report.
    warn
        Gets each warning as soon as it is known.
    clock
        The host's monotonic clock without it.

    Raises
    ------
    MegcError
        Whatever keeps the analysis from running or finishing. Results up to then are on disk. What makes the results of
        a source incomplete or empty is no error here, but its ``problem``: see :func:`raise_problems`.
    """
    nodes = nodes_of(settings)
    if settings.pipeline.runner == "embedded":
        return _embedded(settings, nodes, sinks, truth, warn, clock or MonotonicClock())
    from megc_stream.cli.processes import run_processes

    return run_processes(settings, nodes)


def raise_problems(analyses: Sequence[Analysis], *, kept: bool = True) -> None:
    """Raise what makes results incomplete or empty although nothing failed, where there is such a thing.

    ``kept`` tells whether the folders of the results stay.

    Raises
    ------
    CaptureError
        The problem of the first source that has one, with those of the others as notes.
    """
    problems = [analysis for analysis in analyses if analysis.problem]
    if not problems:
        return
    error = CaptureError(problems[0].problem)
    for analysis in problems[1:]:
        error.add_note(analysis.problem)
    if kept:
        error.add_note(f"what was found is in {', '.join(analysis.folder for analysis in problems)}")
    raise error


def open_reader(settings: Settings, clock: Clock) -> tuple[Source, FaceAnalyser]:
    """Open the source and make the face analysis: what the reader needs."""
    source = _open_source(settings, clock)
    try:
        return source, _make_face(settings, source)
    except BaseException:
        source.close()
        raise


def _open_source(settings: Settings, clock: Clock) -> Source:
    source = open_input(settings, clock)
    if source.info.live and settings.spotting.mode == "video":
        source.close()
        raise UsageError(f"{source.info.source}: --spotting video needs a file; a live source takes --spotting causal")
    source.drain()  # until all stages of all sources are ready
    return source


def _open_sources(nodes: Sequence[Node], clock: Clock, stack: ExitStack) -> dict[str, Source]:
    """Open all sources, to be closed with ``stack``.

    Streams are opened at once, because each may take seconds to answer; devices in turn, as their drivers expect.
    """
    streams = [node for node in nodes if "://" in node.settings.source]
    opening: dict[str, Future[Source]] = {}
    try:
        with ThreadPoolExecutor(len(streams) or 1, thread_name_prefix="megc-open") as pool:
            for node in streams:
                opening[node.name] = pool.submit(_open_node, node, clock)
    except BaseException:  # Ctrl-C, while some may still be opened
        for stream in opening.values():
            stream.add_done_callback(_close_opened)
        raise
    failed = []
    for stream in opening.values():
        error = stream.exception()
        if error is None:
            stack.enter_context(stream.result())
        else:
            failed.append(error)
    if failed:
        for other in failed[1:]:
            failed[0].add_note(f"and: {other}")
        raise failed[0]
    return {
        node.name: opening[node.name].result() if node.name in opening else stack.enter_context(_open_node(node, clock))
        for node in nodes
    }


def _open_node(node: Node, clock: Clock) -> Source:
    try:
        return _open_source(node.settings, clock)
    except MegcError as error:
        if node.name:
            error.add_note(f"this is the source '{node.name}'")
        raise


def _close_opened(stream: Future[Source]) -> None:
    if not stream.cancelled() and stream.exception() is None:
        stream.result().close()


def _make_face(settings: Settings, source: Source) -> FaceAnalyser:
    face = FaceAnalyser(settings.face, source.info.fps, settings.model.providers)
    face.warm_up()
    return face


def build_stage(name: str, settings: Settings, clock: Clock) -> Stage:
    """Make the stage of this name."""
    questions = settings.vqa.answerer is not None
    match name:
        case "spotter":
            spotter = Spotter(settings, _model(settings), clock, pass_crops=questions)
            spotter.warm_up()
            return spotter
        case "recogniser":
            kept_s = settings.spotting.longest_s + _MARGIN_S if settings.spotting.mode == "causal" else None
            return Recogniser(_model(settings).info.classes, kept_s, clock, pass_crops=questions)
        case "vqa":
            from megc_stream.vqa.asking import Asker
            from megc_stream.vqa.stage import VqaStage

            served = settings.vqa.answerer != "embedded"
            return VqaStage(settings, clock, Asker(settings.vqa, clock) if served else None)
    raise UsageError(f"stage '{name}': unknown; expected one of {', '.join(stages_of(settings))}, publisher")


def _model(settings: Settings) -> MeanModel:
    return MeanModel(find_mean(settings.model.name), settings.model.providers, settings.model.threads)


def _build_stages(settings: Settings, nodes: Sequence[Node], clock: Clock) -> dict[str, list[tuple[str, Stage]]]:
    """Make all stages but the readers, by source."""
    names = stages_of(settings)[1:]
    return {node.name: [(name, build_stage(name, node.settings, clock)) for name in names] for node in nodes}


def _embedded(
    settings: Settings,
    nodes: Sequence[Node],
    sinks: Sequence[Sink],
    truth: Sequence[TruthInterval] | None,
    warn: Callable[[str], None] | None,
    clock: Clock,
) -> list[Analysis]:
    started = datetime.now().astimezone()
    desks = {node.name: Desk() for node in nodes}
    sources: dict[str, Source] = {}

    def post(command: Command) -> None:
        """Carry out a command of a control client at once."""
        for name in list(sources) if command.source is None else [command.source]:
            match command.name:
                case "start":
                    sources[name].hold(None)
                case "pause":
                    sources[name].hold("paused")
                case "stop":
                    sources[name].stop()
                case "insert" if command.insertion is not None:
                    desks[name].leave(command.insertion)

    with ExitStack() as stack:
        context = stack.enter_context(zmq.Context())
        stack.enter_context(authenticator(context, load_security(settings.security)))
        outputs = Outputs(settings, nodes, context, post, clock=clock, sinks=sinks, truth=truth, warn=warn)
        stack.callback(outputs.close)
        sources |= _open_sources(nodes, clock, stack)
        # Kernels are loaded by Python, networks by ONNX Runtime: some tenths of a second each, so both at once.
        with ThreadPoolExecutor(1, thread_name_prefix="megc-start") as beside:
            building = beside.submit(_build_stages, settings, nodes, clock)
            faces = {node.name: _make_face(node.settings, sources[node.name]) for node in nodes}
            stages = building.result()
        chains = []
        try:
            for node in nodes:
                source = sources[node.name]
                folder = folder_of(settings, node, source.info.video, started)
                chains.append(
                    Chain(
                        name=node.name,
                        source=source,
                        face=faces[node.name],
                        stages=stages[node.name],
                        sinks=outputs.open_source(node.name, source.info, source.warnings, started, folder),
                        desk=desks[node.name],
                    )
                )
                source.tell = partial(outputs.tell, node.name)
            outputs.opened(live=any(source.info.live for source in sources.values()))
            with stopping_on_signals(lambda: post(Command(id=0, name="stop"))), what_is_loaded_left_alone():
                run_chains(chains, settings.pipeline, context, outputs.tick)
                return [
                    outputs.finish_source(node.name, sources[node.name].late, sources[node.name].late_by_reason)
                    for node in nodes
                ]
        except BaseException as error:
            try:
                outputs.fail(str(error) or type(error).__name__)
            except MegcError as second:
                error.add_note(f"results are incomplete: {second}")
            if isinstance(error, MegcError) and chains:
                error.add_note(f"what was found is in {outputs.folder(nodes[0].name)}")
            raise
