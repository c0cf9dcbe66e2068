from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from megc_stream.errors import OutputError, UsageError
from megc_stream.output.run_folder import RESULT_FILES, prepare_folder
from megc_stream.settings import OutputSettings

_DATE = datetime(2025, 3, 4, 5, 6, 7)


def test_default_folder_is_named_by_video_and_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = prepare_folder(OutputSettings(), "006_1", _DATE)
    assert folder == Path("megc-runs/006_1-20250304-050607")
    assert folder.is_dir()


@pytest.mark.parametrize("video", ["../up", "a/b", "rtsp://host:554/x", ".."])
def test_default_folder_stays_within_megc_runs(video: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = prepare_folder(OutputSettings(), video, _DATE)
    assert folder.resolve().parent == tmp_path / "megc-runs"


def test_results_are_not_replaced_unless_asked_for(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(UsageError, match=r"holds results already \(run\.json\); add --overwrite"):
        prepare_folder(OutputSettings(folder=tmp_path), "clip", _DATE)
    assert (tmp_path / "run.json").exists()


def test_overwrite_removes_our_files_only(tmp_path: Path) -> None:
    for name in (*RESULT_FILES, "notes.txt"):
        (tmp_path / name).write_text("old")
    assert prepare_folder(OutputSettings(folder=tmp_path, overwrite=True), "clip", _DATE) == tmp_path
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_other_files_in_the_folder_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert prepare_folder(OutputSettings(folder=tmp_path), "clip", _DATE) == tmp_path


def test_absent_parent_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"its parent .* is not a folder"):
        prepare_folder(OutputSettings(folder=tmp_path / "absent" / "out"), "clip", _DATE)


def test_a_file_in_place_of_the_folder_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        prepare_folder(OutputSettings(folder=tmp_path / "out"), "clip", _DATE)


def test_a_folder_without_permission_is_an_output_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The superuser may write anywhere, so the answer of the system is replaced.
    monkeypatch.setattr("megc_stream.output.run_folder.os.access", lambda *_: False)
    with pytest.raises(OutputError, match="no permission to write"):
        prepare_folder(OutputSettings(folder=tmp_path), "clip", _DATE)
