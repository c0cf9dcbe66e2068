"""All settings of megc_stream, in one validated model.

Sources, weakest first: defaults, one TOML file, ``MEGC_*`` environment variables (``MEGC_FACE__KEY_INTERVAL_S=0.2``),
explicit overrides (flags of the command line). Unknown keys are errors. Durations are in seconds, so one setting
serves 25 and 200 fps; lengths are in px of the 128x128 crop unless the name says otherwise.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from pydantic_settings import SettingsError as UnreadableSettings

from megc_stream.errors import SettingsError

__all__ = [
    "CameraSettings",
    "CaptureSettings",
    "FaceSettings",
    "FlowSettings",
    "ModelSettings",
    "OutputSettings",
    "PipelineSettings",
    "SecuritySettings",
    "Settings",
    "SourceSettings",
    "SpottingSettings",
    "VqaSettings",
    "WireSettings",
    "load_settings",
]

_ENV_PREFIX = "MEGC_"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class CameraSettings(_Section):
    """Industrial cameras (`pylon:` and `genicam:`); None leaves the camera as it is configured."""

    width: int | None = Field(default=None, ge=16, le=16384)
    """Width of the region read out, px of the frame; rounded down to the camera's step."""
    height: int | None = Field(default=None, ge=16, le=16384)
    """Height of the region read out, px of the frame; rounded down to the camera's step."""
    offset_x: int | None = Field(default=None, ge=0, le=16384)
    """Left edge of the region on the sensor, px; None centres a region whose width is given."""
    offset_y: int | None = Field(default=None, ge=0, le=16384)
    """Upper edge of the region on the sensor, px; None centres a region whose height is given."""
    exposure_s: float | None = Field(default=None, gt=0, le=10)
    """Exposure time in seconds, shorter than a frame; turns the camera's automatic exposure off."""
    gain: float | None = Field(default=None, ge=0)
    """Gain in the camera's own unit (dB on most); turns its automatic gain off."""
    trigger: str = "off"
    """`off`: the camera keeps its own pace; `software`: this program triggers every frame at `capture.fps`; else the
    name of the camera's trigger input, e.g. `Line1` (`capture.fps` then says at which rate pulses come)."""
    features: dict[str, bool | int | float | str] = {}
    """Further GenICam features by name, set before all others and in this order, e.g. {ReverseX = true}."""
    cti: Path | None = None
    """GenTL producer (.cti file) for `genicam:SERIAL`; None takes those in the folders of GENICAM_GENTL64_PATH."""


class CaptureSettings(_Section):
    """How frames are read."""

    fps: float | None = Field(default=None, gt=0, le=2000)
    """Frames per second; None takes the source's own rate. Image folders have none: 30 is assumed, with a warning."""
    speed: float = Field(default=0.0, ge=0, le=100)
    """Pace of replay as a multiple of the native rate; 0 reads a file as fast as the analysis goes."""
    max_seconds: float | None = Field(default=None, gt=0)
    """Stop after this many seconds of the source; None reads to its end."""
    decode_threads: int = Field(default=2, ge=0, le=16)
    """Threads that decode files ahead of the analysis; 0 decodes when a frame is asked for."""
    ahead_mb: float = Field(default=64.0, ge=1, le=4096)
    """Memory for pictures of a file decoded ahead, MiB."""
    live_queue_s: float = Field(default=0.25, gt=0, le=5)
    """How much of a live stream may wait for the analysis before the oldest frame is dropped, in seconds; what waits
    between the stages (`pipeline.queue_records`) comes on top. In the first second of a stream, up to 128 MiB of
    pictures, nothing is dropped."""
    webcam_width: int = Field(default=640, ge=64, le=7680)
    """Requested width of a webcam picture, px of the frame."""
    webcam_height: int = Field(default=480, ge=64, le=4320)
    """Requested height of a webcam picture, px of the frame."""
    silence_s: float = Field(default=2.0, ge=0.1, le=600)
    """A camera or stream that gives no picture for this many seconds counts as disconnected."""
    reconnect_s: float = Field(default=60.0, ge=0, le=86400)
    """How long to try to reach a disconnected camera or stream again, seconds, before it ends; 0 does not try."""
    camera: CameraSettings = CameraSettings()
    """Industrial cameras."""


class FaceSettings(_Section):
    """How the face is found, followed and judged."""

    backend: Literal["onnx", "mediapipe"] = "onnx"
    """Landmark models: the ONNX files shipped here, or the mediapipe package (extra `mediapipe`)."""
    mediapipe_model: Path | None = None
    """The `face_landmarker.task` to use with the backend `mediapipe`."""
    face_index: int = Field(default=0, ge=0, le=63)
    """Which face to follow, counted from the largest (0) down."""
    key_interval_s: float = Field(default=0.1, gt=0, le=5)
    """Least seconds between key frames, on which landmarks are computed; optical flow follows the face in between."""
    rest_interval_s: float = Field(default=0.5, gt=0, le=5)
    """Seconds between key frames while the eyes look as they did on the last one, the face is not turned and the crop
    is aligned; at least `key_interval_s`. A face that turns away, or is another one, is noticed that much later."""
    detection_threshold: float = Field(default=0.5, gt=0, lt=1)
    """Least score of the face detector."""
    presence_threshold: float = Field(default=0.5, gt=0, lt=1)
    """Least score of the landmark model for the face to count as present."""
    small_px: float = Field(default=80.0, gt=0)
    """Distance between the outer eye corners, px of the frame, below which the face is flagged `small`."""
    turned_deg: float = Field(default=25.0, gt=0, lt=90)
    """Yaw or pitch, degrees, from which the face is flagged `turned`."""
    blink_eye_opening: float = Field(default=0.2, gt=0, lt=1)
    """Eye aspect ratio below which the eyes are flagged `blink`."""
    blurred_sharpness: float = Field(default=15.0, ge=0)
    """Variance of the Laplacian of the crop below which it is flagged `blurred`."""


class FlowSettings(_Section):
    """TV-L1 optical flow between the two crops of a pair."""

    lam: float = Field(default=0.15, ge=1e-4, le=1e4)
    """Weight of the data term on 0..255 grey values (lambda in Zach et al. 2007)."""
    theta: float = Field(default=0.12, ge=1e-4, le=1e4)
    """Coupling of the data and smoothness steps (theta in Zach et al. 2007, who take 0.3)."""
    noise: float = Field(default=2.0, ge=0, le=255)
    """Standard deviation of the sensor's noise, grey values: texture no stronger than it counts less."""


class ModelSettings(_Section):
    """Which spotting and recognition network runs, and where."""

    name: str = "mean-synthetic"
    """Name of a shipped or registered model, or the path of an .onnx file."""
    providers: tuple[str, ...] = ("cpu",)
    """ONNX Runtime providers in order of preference: cuda, tensorrt, cpu."""
    threads: int = Field(default=1, ge=1, le=64)
    """Threads of one ONNX session."""


class SpottingSettings(_Section):
    """How scores become intervals."""

    mode: Literal["causal", "video"] = "causal"
    """`causal` decides from the past while frames arrive; `video` uses the whole video, as published, at its end."""
    k_s: float | None = Field(default=None, gt=0, le=2)
    """Seconds between the two frames of a pair; None takes the model's own (0.1)."""
    k_prime_s: float | None = Field(default=None, gt=0, le=2)
    """Half the expected length of a micro-expression, seconds; None takes the model's own."""
    p: float = Field(default=0.55, gt=0, lt=1)
    """Whole-video threshold: mean + p (max - mean) of the smoothed score."""
    history_s: float = Field(default=20.0, gt=0.5, le=600)
    """Causal threshold: how much of the past the running median and deviation cover, seconds."""
    warmup_s: float = Field(default=2.0, gt=0, le=60)
    """Causal threshold: seconds of scores needed before any event is reported."""
    deviations: float = Field(default=5.0, gt=0)
    """Causal threshold: running median plus this many robust standard deviations (1.4826 x MAD)."""
    least_threshold: float = 0.15
    """Causal threshold: never below this smoothed score."""
    border_level: float = Field(default=0.5, gt=0, lt=1)
    """Causal borders: where the smoothed score falls to this share of the peak's height above the running median."""
    refine_borders: bool = True
    """Causal borders: refine by `border_level`; False reports peak +- k' as in whole-video mode."""
    longest_s: float = Field(default=4.0, gt=0.1, le=60)
    """Causal mode: an event still open after this many seconds is retracted as a change of pose."""
    macro_s: float = Field(default=0.5, gt=0, le=10)
    """Expressions longer than this are `macro`, seconds."""


class PipelineSettings(_Section):
    """How stages are linked."""

    queue_records: int = Field(default=64, ge=1, le=100000)
    """Records that may wait on a link before the sender blocks (files) or frames are dropped (live)."""
    runner: Literal["embedded", "processes", "hosts"] = "embedded"
    """`embedded`: threads of one process; `processes`: one process per stage; `hosts`: stages started elsewhere."""
    coordinator: str | None = None
    """Runner `hosts`: where stages find `megc-stream run`, e.g. tcp://10.0.0.1:5600."""
    publisher: str | None = None
    """Runner `hosts`: where stages send their results to the publisher, e.g. tcp://10.0.0.1:5601."""
    checkpoint_s: float = Field(default=2.0, gt=0.01, le=60)
    """Seconds of the source between two snapshots of all stages, in several processes."""
    restarts: int = Field(default=5, ge=0, le=1000)
    """How often a stage may die without any progress between before the run fails."""
    restart_after_s: float = Field(default=0.1, ge=0, le=60)
    """Wait before a dead stage is started again, seconds; doubled each time it dies without progress, up to 5 s."""
    start_s: float = Field(default=120.0, gt=0, le=3600)
    """How long a stage may take to start, or to come back, before the run fails, seconds."""
    silent_s: float = Field(default=10.0, gt=0.5, le=600)
    """A stage that says nothing for this long counts as dead; without word from `run` a stage ends after three times
    this, seconds."""


class SourceSettings(_Section):
    """One of several sources in a graph; what its tables leave out is taken from the tables outside."""

    name: str = Field(pattern=r"^[\w-]+$")
    """Short name: that of its folder in the results, and of its stages."""
    source: str
    """What to analyse, as `source` outside."""
    subject: str | None = None
    """Subject in results; None takes the part of the video's name before the first `_`."""
    video: str | None = None
    """Video name in results and source in messages; None takes `name`."""
    capture: CaptureSettings = CaptureSettings()
    """What differs from the table `capture`."""
    face: FaceSettings = FaceSettings()
    """What differs from the table `face`."""
    links: dict[Literal["spotter", "recogniser", "vqa"], str] = {}
    """Runner `hosts`: where each stage takes its records, e.g. {spotter = "tcp://10.0.0.2:5610"}."""


class WireSettings(_Section):
    """What other programs can connect to."""

    publish: str | None = None
    """Endpoint on which events are published, e.g. tcp://127.0.0.1:5550; None publishes nothing."""
    publish_frames: str | None = None
    """Endpoint on which face crops are published, encoded only while somebody subscribes; None publishes none."""
    frames_format: Literal["jpeg", "gray"] = "jpeg"
    """Published crops: `jpeg`, or `gray`, 128 x 128 bytes without compression."""
    frames_quality: int = Field(default=90, ge=1, le=100)
    """JPEG quality of published crops."""
    control: str | None = None
    """Endpoint that takes commands; None takes none."""
    recordings: str | None = None
    """Endpoint from which recorders fetch every message without loss; None offers none."""
    insecure_bind: bool = False
    """Allow endpoints outside loopback without encryption; every status message then says so."""


class SecuritySettings(_Section):
    """Keys (CURVE) of endpoints outside loopback."""

    secret_key: Path | None = None
    """Secret key file of this program, from `megc-stream keys new`; None binds and connects without encryption."""
    server_key: Path | None = None
    """Public key file of the other side, where this program connects: nobody else is accepted."""
    allowed: Path | None = None
    """Folder of the public key files of those who may connect; read anew for every connection and command."""
    max_message_bytes: int = Field(default=64 * 2**20, ge=65536, le=2**31 - 1)
    """Largest part of a message that is accepted, bytes: a peer that sends more is disconnected."""


class VqaSettings(_Section):
    """Who answers questions about events, and how."""

    answerer: str | None = None
    """`embedded`, or the address of an OpenAI-compatible server such as http://127.0.0.1:8000/v1; None asks nothing."""
    questions: tuple[str, ...] = (
        "What is the coarse expression class?",
        "What are the action units?",
        "Please analyse the micro-expression shown in this video in detail.",
    )
    """What is asked of every event."""
    model: str | None = None
    """Name of the model, or of a LoRA adapter, on the server; None takes the only model that is served."""
    inputs: tuple[Literal["video", "oao", "flow"], ...] = Field(default=("oao", "flow"), min_length=1)
    """What a served model is shown: a video, pictures at onset, apex and offset, a picture of the optical flow."""
    prompts: str = "megc-1"
    """Version of the prompts, or a .toml file of one's own."""
    redact_eyes: bool = False
    """Black out the eyes in everything that is sent to the server."""
    timeout_s: float = Field(default=30.0, gt=0, le=3600)
    """Seconds that the server has for a question, retries included; then the embedded answer stands."""
    concurrency: int = Field(default=2, ge=1, le=64)
    """Questions that the server is asked at the same time."""
    waiting: int = Field(default=200, ge=1, le=10_000)
    """Questions that may wait for their turn; the embedded answer stands for those beyond."""
    drain_s: float = Field(default=120.0, ge=0, le=86400)
    """How long the end of a run waits for answers that are still out, seconds; then the embedded ones stand."""
    retries: int = Field(default=2, ge=0, le=10)
    """How often a question is asked again after 429, 5xx or a broken connection, with growing pauses."""
    breaker_failures: int = Field(default=3, ge=1, le=1000)
    """Failures in a row after which the server is left alone for a while."""
    breaker_pause_s: float = Field(default=30.0, gt=0, le=3600)
    """How long it is left alone, seconds; then one question tries it."""
    max_tokens: int = Field(default=512, ge=16, le=8192)
    """Tokens that an answer may have."""
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    """Seed given to the server; the temperature is always 0."""
    api_key_variable: str = Field(default="VQA_API_KEY", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """Environment variable that holds the server's API key; keys are taken from nowhere else."""


class OutputSettings(_Section):
    """What is written, and where."""

    folder: Path | None = None
    """Folder of the results; None makes ./megc-runs/<stem>-<date>."""
    overwrite: bool = False
    """Replace results that are already in the folder."""
    with_images: bool = False
    """Put face crops into the report. Off by default: no pixels reach the disk unless asked for."""


class Settings(BaseSettings):
    """The whole configuration; :func:`load_settings` makes one."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        env_prefix=_ENV_PREFIX,
        env_nested_delimiter="__",
        nested_model_default_partial_update=True,
    )

    source: str = ""
    """What to analyse: a camera index, a video file, a folder of images, a stream URL."""
    subject: str | None = None
    """Subject in results; None takes the part of the video's name before the first `_`."""
    video: str | None = None
    """Video name in results; None takes the stem of the file or folder."""
    sources: tuple[SourceSettings, ...] = ()
    """Several sources in one graph, instead of `source`."""
    capture: CaptureSettings = CaptureSettings()
    face: FaceSettings = FaceSettings()
    flow: FlowSettings = FlowSettings()
    model: ModelSettings = ModelSettings()
    spotting: SpottingSettings = SpottingSettings()
    pipeline: PipelineSettings = PipelineSettings()
    wire: WireSettings = WireSettings()
    security: SecuritySettings = SecuritySettings()
    vqa: VqaSettings = VqaSettings()
    output: OutputSettings = OutputSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take flags, then variables, then the file named by :func:`load_settings`; no dotenv, no secrets folder."""
        sources: list[PydanticBaseSettingsSource] = []
        if isinstance(init_settings, InitSettingsSource):
            file = init_settings.init_kwargs.pop("_file", None)
            sources = [init_settings, env_settings]
            if file is not None:
                sources.append(TomlConfigSettingsSource(settings_cls, toml_file=file))
        return tuple(sources)


def load_settings(file: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Merge defaults, a TOML file, ``MEGC_*`` variables and overrides into one validated :class:`Settings`.

    Parameters
    ----------
    file
        A TOML file whose tables are the sections (``[face]``, ``[spotting]``, ...), or None.
    overrides
        Nested dictionary of explicit values, e.g. ``{"spotting": {"mode": "video"}}``; None values are ignored.

    Raises
    ------
    SettingsError
        The file is missing or not TOML, a key is unknown, or a value is out of range; names the key.
    """
    if file is not None:
        _check_readable(file)
    _check_variables()
    try:
        return Settings(_file=file, **_without_none(overrides or {}))  # type: ignore[call-arg]
    except ValidationError as error:
        raise SettingsError(_first_problem(error)) from error
    except UnreadableSettings as error:
        raise SettingsError(f'environment: {error}; lists are written as JSON, e.g. ["cuda", "cpu"]') from error


def _check_readable(file: Path) -> None:
    if file.exists() and not file.is_file():  # a folder, or a pipe, which can be read only once
        raise SettingsError(f"settings file {file}: is no regular file; expected a TOML file")
    try:
        with file.open("rb") as stream:
            tomllib.load(stream)
    except OSError as error:
        raise SettingsError(f"settings file {file}: cannot be read ({error.strerror}); expected a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"settings file {file}: not valid TOML ({error})") from error


def _check_variables() -> None:
    # pydantic-settings passes over variables that match no field; a misspelt one must not be silent.
    for variable in os.environ:
        if variable.startswith(_ENV_PREFIX):
            name = variable[len(_ENV_PREFIX) :].lower().partition("__")[0]
            if name not in Settings.model_fields:
                raise SettingsError(
                    f"environment variable {variable}: unknown setting '{name}'; "
                    "'megc-stream config schema' lists the known ones"
                )


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_none(value) if isinstance(value, Mapping) else value
        for key, value in values.items()
        if value is not None
    }


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"unknown setting '{key}'; 'megc-stream config schema' lists the known ones"
    return f"setting '{key}' = {problem['input']!r}: {problem['msg']}; see 'megc-stream config schema'"
