from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from stamped_media import write_images, write_video

from megc_stream.capture import open_source
from megc_stream.clock import ManualClock
from megc_stream.errors import CaptureError, MegcError, UsageError
from megc_stream.settings import CaptureSettings


def opened_names(spec: str, **names: str) -> tuple[str, str, str]:
    with open_source(spec, CaptureSettings(), clock=ManualClock(), **names) as source:  # type: ignore[arg-type]
        return source.info.source, source.info.subject, source.info.video


def test_names_come_from_the_file(tmp_path: Path) -> None:
    assert opened_names(str(write_video(tmp_path / "006_1_x.mp4", 2))) == ("006_1_x", "006", "006_1_x")
    assert opened_names(str(write_video(tmp_path / "plain.mp4", 2))) == ("plain", "plain", "plain")


def test_names_come_from_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_images(tmp_path / "007_3.raw", range(2), "{}.png")
    assert opened_names(str(folder)) == ("007_3.raw", "007", "007_3.raw")
    assert opened_names(f"{folder}/") == ("007_3.raw", "007", "007_3.raw")
    monkeypatch.chdir(folder)
    assert opened_names(".") == ("007_3.raw", "007", "007_3.raw")


def test_given_names_win(tmp_path: Path) -> None:
    path = str(write_video(tmp_path / "006_1.mp4", 2))
    assert opened_names(path, subject="anna") == ("006_1", "anna", "006_1")
    assert opened_names(path, video="b_2") == ("b_2", "b", "b_2")


def test_names_with_colons_and_percent_signs_are_plain_files(tmp_path: Path) -> None:
    assert opened_names(str(write_video(tmp_path / "a%d.mp4", 2)))[0] == "a%d"
    path = write_video(tmp_path / "b.mp4", 2)
    renamed = path.rename(tmp_path / "take 1: ä?.mp4")
    assert opened_names(str(renamed))[0] == "take 1: ä?"


def test_a_relative_name_with_a_colon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "b.mp4", 2).rename(tmp_path / "take:1.mp4")
    assert opened_names("take:1.mp4")[0] == "take:1"


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("", UsageError, "the source is empty"),
        ("   ", UsageError, "the source is empty"),
        ("gopher://x/y", UsageError, "scheme 'gopher://' is not known"),
        ("rtsp://", UsageError, "names no host"),
        ("http://[::1/x", UsageError, "not a valid address"),
        ("http://me:secret\u2100@h/x", UsageError, "not a valid address"),
        ("vimba:123", UsageError, "neither a file nor a known kind of source"),
        (
            "http://me:secret@h:99999/x",
            UsageError,
            r"port that is no number from 1 to 65535; expected http://HOST:PORT",
        ),
        ("rtsp://me:secret/x@h/x", UsageError, "port that is no number from 1 to 65535; .* %2F for / in a password"),
        ("rtsp://h:0/x", UsageError, "port that is no number"),
        ("rtsp://h:/x", UsageError, "port that is no number"),
        ("webcam:no camera is called so", CaptureError, "no webcam of that name"),
        ("nothing/here.mp4", CaptureError, "no such file or folder"),
        ("a\0b", UsageError, "not a possible file name"),
        ("x" * 5000, CaptureError, "cannot be opened"),
    ],
)
def test_nonsense_is_one_clear_line(spec: str, error: type[MegcError], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        open_source(spec, CaptureSettings(), clock=ManualClock())
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_what_is_neither_file_nor_folder(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(CaptureError, match="neither a file nor a folder"):
        open_source(str(tmp_path / "pipe.mp4"), CaptureSettings(), clock=ManualClock())


def test_a_path_below_a_folder_that_may_not_be_entered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, **options: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(CaptureError, match=r"clip\.mp4: cannot be opened \(Permission denied\)"):
        open_source(str(tmp_path / "clip.mp4"), CaptureSettings(), clock=ManualClock())


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_a_failed_network_stream_shows_the_port_and_not_the_password(host: str) -> None:
    with pytest.raises(CaptureError) as caught:
        open_source(f"http://me:secret@{host}:1/x", CaptureSettings(), clock=ManualClock())
    assert str(caught.value).startswith(f"http://{host}:1/x: cannot be opened")
    assert "secret" not in str(caught.value)


def test_a_host_that_is_not_known_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(host: str, port: None) -> None:
        asked.append(host)
        raise socket.gaierror(-2, "Name or service not known")

    asked: list[str] = []
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(CaptureError, match=r"http://camera\.invalid/x: .*\(its host is not known\); expected a name"):
        open_source("http://me:secret@camera.invalid/x", CaptureSettings(), clock=ManualClock())
    assert asked == ["camera.invalid"]
