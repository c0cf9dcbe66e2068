from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from megc_stream.capture import open_source
from megc_stream.clock import ManualClock
from megc_stream.errors import DataError, MegcError, MissingExtraError, OutputError, UsageError
from megc_stream.settings import CaptureSettings
from megc_stream.synthesis import read_truth, synth_clip, synth_inject, write_truth
from megc_stream.synthesis.plan import plan_clip
from megc_stream.synthesis.rendering import render_clip
from megc_stream.synthesis.truth import TruthRow, truth_path
from megc_stream.synthesis.writing import write_clip

HEADER = "subject,video,fps,onset,apex,offset,emotion,aus,amplitude_iod"
ROW = TruthRow(
    subject="s1",
    video="s1_2",
    fps=29.97,
    onset=10,
    apex=12,
    offset=15,
    emotion="surprise",
    aus="1+2",
    amplitude_iod=0.0312,
)


def decoded(path: Path, colour: bool = False) -> tuple[float, list[np.ndarray]]:
    with open_source(str(path), CaptureSettings(), clock=ManualClock(), colour=colour) as source:
        return source.info.fps, [frame.image for frame in source.frames()]


def pictures(count: int, colour: bool, width: int = 96, height: int = 64) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 256, (count, height, width, 3), np.uint8)
    smooth = [cv2.GaussianBlur(frame, (0, 0), 4) for frame in noise]
    return smooth if colour else [frame[..., 0].copy() for frame in smooth]


@pytest.mark.parametrize("fps", [25, 29.97, 30000 / 1001, 59.94, 200])
@pytest.mark.parametrize("colour", [False, True])
def test_lossless_video_decodes_to_the_same(tmp_path: Path, fps: float, colour: bool) -> None:
    frames = pictures(7, colour)
    assert write_clip(tmp_path / "a.mkv", iter(frames), fps, colour) == 7
    found_fps, found = decoded(tmp_path / "a.mkv", colour)
    assert found_fps == pytest.approx(fps, rel=1e-4)
    np.testing.assert_array_equal(found, frames)
    with av.open(str(tmp_path / "a.mkv")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("ffv1", "bgr0" if colour else "gray")


@pytest.mark.parametrize("colour", [False, True])
def test_compressed_video_comes_close(tmp_path: Path, colour: bool) -> None:
    frames = pictures(9, colour)
    write_clip(tmp_path / "a.mp4", iter(frames), 50, colour)
    fps, found = decoded(tmp_path / "a.mp4", colour)
    assert fps == 50
    assert len(found) == 9
    assert np.abs(np.array(found).astype(int) - frames).mean() < 4
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"


@pytest.mark.parametrize("colour", [False, True])
def test_folder_of_images_holds_the_same(tmp_path: Path, colour: bool) -> None:
    frames = pictures(4, colour)
    write_clip(tmp_path / "a", iter(frames), 50, colour)
    assert sorted(file.name for file in (tmp_path / "a").iterdir()) == [f"0000{i}.png" for i in range(4)]
    np.testing.assert_array_equal(decoded(tmp_path / "a", colour)[1], frames)


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_same_frames_same_file(tmp_path: Path, name: str) -> None:
    for folder in ("x", "y"):
        write_clip(tmp_path / folder / name, iter(pictures(5, False)), 25)
    assert (tmp_path / "x" / name).read_bytes() == (tmp_path / "y" / name).read_bytes()


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a"])
def test_what_is_there_is_replaced_only_when_asked(tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    write_clip(out, iter(pictures(5, False)), 25)
    with pytest.raises(UsageError, match="--overwrite"):
        write_clip(out, iter(pictures(3, False)), 25)
    assert len(decoded(out)[1]) == 5
    write_clip(out, iter(pictures(3, False)), 25, overwrite=True)
    assert len(decoded(out)[1]) == 3
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a"])
def test_truth_that_is_there_is_respected(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.csv").write_text("mine")
    with pytest.raises(UsageError, match=r"a\.csv"):
        write_clip(tmp_path / name, iter(pictures(3, False)), 25)


def test_a_folder_with_other_things_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"thesis\.txt"):
        write_clip(tmp_path / "a", iter(pictures(3, False)), 25, overwrite=True)
    assert (tmp_path / "a" / "thesis.txt").exists()


@pytest.mark.parametrize("name", ["a.avi", "a.csv", "a.png"])
def test_other_suffixes_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="suffix"):
        write_clip(tmp_path / name, iter(pictures(3, False)), 25)


def test_bad_frames_are_refused(tmp_path: Path) -> None:
    for frames, colour in (
        ([], False),
        (pictures(2, True), False),
        (pictures(2, False), True),
        ([*pictures(2, False), *pictures(1, False, width=50)], False),
        ([np.zeros((8, 8))], False),
    ):
        for name in ("a.mkv", "a"):
            with pytest.raises(UsageError):
                write_clip(tmp_path / name, iter(frames), 25, colour)
    with pytest.raises(UsageError, match="even"):
        write_clip(tmp_path / "a.mp4", iter(pictures(2, False, width=97)), 25)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a"])
def test_a_full_disk_is_reported_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    resource = pytest.importorskip("resource", reason="needs a limit on file sizes in place of a full disk")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    generator = np.random.default_rng(0)
    frames = [generator.integers(0, 256, (256, 256), np.uint8) for _ in range(20)]
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
        with pytest.raises(OutputError, match="cannot be written"):
            write_clip(tmp_path / name, iter(frames), 25)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a"])
def test_an_interrupted_clip_leaves_nothing(tmp_path: Path, name: str) -> None:
    def broken() -> Iterator[np.ndarray]:
        yield from pictures(3, False)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_clip(tmp_path / name, broken(), 25)
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot be written"):
        write_clip(tmp_path / "file" / "a.mkv", iter(pictures(2, False)), 25)


def test_truth_round_trip(tmp_path: Path) -> None:
    rows = [ROW, TruthRow(**{**{f: getattr(ROW, f) for f in ROW.__struct_fields__}, "aus": "R14", "onset": 0})]
    write_truth(tmp_path / "a.csv", rows)
    assert (tmp_path / "a.csv").read_text().splitlines()[0] == HEADER
    assert read_truth(tmp_path / "a.csv") == rows
    assert [file.name for file in tmp_path.iterdir()] == ["a.csv"]


def test_truth_with_other_order_and_further_columns(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text(
        "note,amplitude_iod,aus,emotion,offset,apex,onset,fps,video,subject\n"
        "x,0.0312,1+2,surprise,15,12,10,29.97,s1_2,s1\n\n"
    )
    assert read_truth(file) == [ROW]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("s,v,25,x,12,15,positive,12,0.03", "row 2, column onset"),
        ("s,v,25,1.5,12,15,positive,12,0.03", "row 2, column onset"),
        ("s,v,25,-1,12,15,positive,12,0.03", "row 2, column onset"),
        ("s,v,25,10,9,15,positive,12,0.03", "row 2, column apex"),
        ("s,v,25,10,16,15,positive,12,0.03", "row 2, column apex"),
        ("s,v,0,10,12,15,positive,12,0.03", "row 2, column fps"),
        ("s,v,nan,10,12,15,positive,12,0.03", "row 2, column fps"),
        ("s,v,25,10,12,15,,12,0.03", "row 2, column emotion"),
        ("s,v,25,10,12,15,positive,smile,0.03", "row 2, column aus"),
        ("s,v,25,10,12,15,positive,12,big", "row 2, column amplitude_iod"),
        ("s,v,25,10,12,15,positive,12", "row 2: 8 values"),
    ],
)
def test_malformed_truth_names_row_and_column(tmp_path: Path, line: str, message: str) -> None:
    file = tmp_path / "a.csv"
    file.write_text(f"{HEADER}\n{line}\n")
    with pytest.raises(DataError, match=message) as refusal:
        read_truth(file)
    assert str(file) in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", b"\xff\xfe\x00", HEADER[:-4].encode()])
def test_no_truth_at_all(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.csv"):
        read_truth(file)
    with pytest.raises(DataError, match="cannot be read"):
        read_truth(tmp_path / "b.csv")


def test_truth_lies_beside_the_clip() -> None:
    for clip in ("d/p1_x.mkv", "d/p1_x.MP4", "d/p1_x"):
        assert truth_path(Path(clip)) == Path("d/p1_x.csv")


def test_synth_clip_in_one_call(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    out = tmp_path / "ada_1.mkv"
    rows = synth_clip(
        out, fps=25, seconds=1.6, events=1, seed=2, progress=lambda done, total: seen.append((done, total))
    )
    assert read_truth(tmp_path / "ada_1.csv") == rows
    assert [(row.subject, row.video, row.fps) for row in rows] == [("ada", "ada_1", 25)]
    fps, frames = decoded(out)
    assert (fps, len(frames), frames[0].shape) == (25, 40, (480, 640))
    assert seen[-1] == (40, 40)
    first = out.read_bytes()
    with pytest.raises(UsageError, match="exists"):
        synth_clip(out, fps=25, seconds=1.6, events=1, seed=2)
    synth_clip(out, fps=25, seconds=1.6, events=1, seed=2, overwrite=True)
    assert out.read_bytes() == first


def test_the_missing_package_names_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(MissingExtraError, match=r"scikit-image.*\[demo\]"):
        synth_clip(tmp_path / "a.mkv", fps=25, seconds=4, events=1)


def test_portraits_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("hello")
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((200, 200), 90, np.uint8))
    for name, kind in (("text.png", DataError), ("grey.png", DataError), ("none.png", UsageError)):
        with pytest.raises(MegcError, match=name) as refusal:
            synth_clip(tmp_path / "a.mkv", tmp_path / name, fps=25, seconds=4, events=1)
        assert isinstance(refusal.value, kind)
    assert not (tmp_path / "a.mkv").exists()


@pytest.fixture(scope="module")
def quiet_clip(tmp_path_factory: pytest.TempPathFactory, portrait) -> Path:
    """A small colour clip of a face that sways and does nothing else."""
    out = tmp_path_factory.mktemp("quiet") / "eva_1.mkv"
    plan = plan_clip(5, 25, 4, events=0, width=320, height=304, noise_sigma=0, blinks_per_s=0, speech_per_s=0)
    write_clip(out, render_clip(plan, portrait.image, portrait.landmarks), plan.fps, colour=True)
    return out


def test_inject_plants_events_and_nothing_else(tmp_path: Path, quiet_clip: Path) -> None:
    seen: list[tuple[int, int]] = []
    out = tmp_path / "eva_2.mkv"
    rows = synth_inject(
        str(quiet_clip),
        out,
        events=2,
        seed=3,
        length_s=(0.3, 0.5),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert read_truth(tmp_path / "eva_2.csv") == rows
    assert len(rows) == 2
    fps, before = decoded(quiet_clip, True)
    fps_after, after = decoded(out, True)
    assert fps_after == fps == 25
    assert len(after) == len(before) == 100
    changed = [index for index in range(100) if (before[index] != after[index]).any()]
    assert changed == [index for row in rows for index in range(row.onset + 1, row.offset)]
    assert seen[-1] == (200, 200)
    for row in rows:
        region = np.abs(after[row.apex].astype(int) - before[row.apex]).max(axis=2) > 12
        assert 0 < region.mean() < 0.3


def test_injected_motion_has_the_amplitude(tmp_path: Path, quiet_clip: Path) -> None:
    rows = synth_inject(
        str(quiet_clip), tmp_path / "a.mkv", events=1, seed=1, amplitude_iod=(0.04, 0.04), length_s=(0.4, 0.4)
    )
    before, after = decoded(quiet_clip)[1][rows[0].apex], decoded(tmp_path / "a.mkv")[1][rows[0].apex]
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow = np.linalg.norm(dis.calc(before, after, None), axis=-1)
    # The inter-ocular distance is 90 to 110 px; flow on a real, noisy face finds most of the motion.
    assert 0.75 * 0.04 * 90 < np.percentile(flow, 99.9) < 1.15 * 0.04 * 110


def test_inject_takes_the_rate_of_a_folder_from_the_caller(tmp_path: Path, portrait) -> None:
    plan = plan_clip(5, 25, 2, events=0, width=320, height=304, noise_sigma=0, blinks_per_s=0, speech_per_s=0)
    write_clip(tmp_path / "b", render_clip(plan, portrait.image, portrait.landmarks), 25, colour=True)
    rows = synth_inject(str(tmp_path / "b"), tmp_path / "c", events=1, fps=25)
    assert [row.fps for row in rows] == [25]
    assert len(list((tmp_path / "c").iterdir())) == 50


def test_inject_needs_a_face_and_room(tmp_path: Path, quiet_clip: Path) -> None:
    empty = tmp_path / "empty"
    write_clip(empty, iter([np.full((120, 160, 3), 80, np.uint8)] * 10), 25, colour=True)
    with pytest.raises(DataError, match="no face"):
        synth_inject(str(empty), tmp_path / "a.mkv", events=1)
    with pytest.raises(UsageError, match="fit"):
        synth_inject(str(quiet_clip), tmp_path / "a.mkv", events=40)
    with pytest.raises(UsageError, match="suffix"):
        synth_inject(str(quiet_clip), tmp_path / "a.avi", events=1)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["empty"]


def test_out_of_space_has_the_systems_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OutputError, match="No space left"):
        write_truth(tmp_path / "a.csv", [ROW])
