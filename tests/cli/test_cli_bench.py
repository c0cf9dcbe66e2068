from __future__ import annotations

import json
from pathlib import Path

import pytest
from outcome import Command

from megc_stream.benchmarking import latency_bench


def test_bench_flow_prints_a_table_and_writes_json(command: Command, tmp_path: Path) -> None:
    done = command("bench", "flow", "--quick", "--sizes", "32,40", "--texture", "generated", "--json", "flow.json")
    assert done.code == 0, done.err
    result = json.loads((tmp_path / "flow.json").read_text())
    assert {
        "machine",
        "cores",
        "versions",
        "settings",
        "sequence",
        "calibration_ms",
        "sizes",
        "features",
        "targets",
    } == set(result)
    assert [one["size_px"] for one in result["sizes"]] == [32, 40]
    assert {"ms_p50", "ms_p95", "times_dual", "error_px", "moving_error_px", "angular_error_deg", "energy"} <= set(
        result["sizes"][0]["cases"]["streaming"]["tvl1solver warm"]
    )
    assert result["settings"]["texture"] == "generated"
    assert "40 px, streaming" in done.out
    assert "tvl1solver warm" in done.out
    assert "features of a 128 px flow" in done.out


def test_bench_refuses_wrong_sizes(command: Command) -> None:
    for sizes, words in (("large", "expected widths in px"), ("8", "at least 32")):
        done = command("bench", "flow", "--sizes", sizes)
        assert done.code == 2
        assert words in done.err
    for words in (["bench"], ["bench", "flow"]):
        assert command(*words, "--help").code == 0


def test_bench_wire_prints_a_table_and_writes_json(command: Command, tmp_path: Path) -> None:
    done = command(
        "bench", "wire", "--seconds", "1", "--streams", "2", "--transports", "inproc,tcp+curve", "--json", "wire.json"
    )
    assert done.code == 0, done.err
    result = json.loads((tmp_path / "wire.json").read_text())
    assert [(one["transport"], one["streams"]) for one in result["figures"]] == [("inproc", 2), ("tcp+curve", 2)]
    for one in result["figures"]:
        assert one["sent"] == 400
        assert one["received"] + one["lost"] == 400
        assert 0 < one["latency_ms_p50"] <= one["latency_ms_p99"] <= one["latency_ms_max"]
        assert one["cpu_publisher_us"] > 0
        assert 0 < one["slow_received"] <= one["sent"]
    assert result["figures"][1]["cpu_subscriber_us"] > 0
    assert result["message_bytes"] > 100
    assert result["met"] is None
    assert "tcp+curve" in done.out


def test_bench_wire_refuses_what_it_cannot_measure(command: Command) -> None:
    for words in (["--streams", "0"], ["--streams", "many"], ["--transports", "pigeon"]):
        done = command("bench", "wire", *words)
        assert done.code == 2
        assert "bench wire: " in done.err


KEYS = {
    "fps_in",
    "fps_out",
    "frames",
    "seconds",
    "dropped",
    "late",
    "capture_to_score_ms",
    "stages_ms",
    "cpu_cores",
    "rss_mb",
    "lookahead_s",
}


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let figures begin with the first score instead of 2 s later, so that a second of a clip suffices."""
    monkeypatch.setattr(latency_bench, "LEFT_OUT_S", 0.0)
    monkeypatch.setattr(latency_bench, "_SAMPLE_S", 0.0)


def test_bench_latency_says_what_the_issue_asks_for(
    command: Command, clip: Path, tmp_path: Path, at_once: None
) -> None:
    done = command(
        "bench", "latency", clip, "--seconds", "1", "--json", "l.json", "--picture", "l.svg", "--out", "kept"
    )
    assert done.code == 0, done.err
    result = json.loads((tmp_path / "l.json").read_text())
    assert set(result) > KEYS
    assert (result["frames"], result["scores"], result["dropped"]) == (50, 45, 0)
    assert result["seconds"] == pytest.approx(0.98)
    assert result["fps_in"] > 0
    assert result["fps_out"] > 0
    assert {"capture", "reader", "decode", "spotter", "recogniser"} <= set(result["stages_ms"])
    for figures in (result["capture_to_score_ms"], *result["stages_ms"].values()):
        assert 0 <= figures["p50"] <= figures["p95"] <= figures["p99"] <= figures["max"]
    assert result["lookahead_s"] == pytest.approx(
        sum(result["lookahead"][part] for part in ("pair", "smoothing", "peak"))
    )
    assert result["cpu_cores"] > 0
    assert result["rss_mb"] > 50
    assert "capture to score" in done.out
    assert "look-ahead of the method" in done.out
    assert (tmp_path / "l.svg").read_text().startswith("<svg ")
    record = json.loads((tmp_path / "kept" / "run.json").read_text())
    assert record["counts"]["frames"] == 50
    assert record["late"] == result["late"] == sum(result["late_by_reason"].values())
    # What is there is not replaced.
    assert command("bench", "latency", clip, "--out", "kept").code == 2


def test_bench_throughput_of_several_sources(command: Command, clip: Path, at_once: None) -> None:
    done = command("bench", "throughput", clip, clip, "--seconds", "1.5", "--json", "-")
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert set(result) > KEYS
    assert (result["dropped"], result["late"], result["stopped"]) == (0, None, False)
    assert [source.partition(":")[0] for source in result["sources"]] == ["s0", "s1"]
    assert result["times_real_time"] == pytest.approx(result["fps_in"] / 100)
    assert "spotter" in result["cpu_cores_by_thread"]


def test_bench_throughput_prints_how_much_faster_than_real_time(command: Command, clip: Path, at_once: None) -> None:
    done = command("bench", "throughput", clip, "--seconds", "1.5")
    assert done.code == 0, done.err
    assert "x real time" in done.out
    assert "capture to score" not in done.out, "at full speed it only says how long the queues are"


def test_bench_in_whole_video_mode_says_when_events_are_known(
    command: Command, clip: Path, tmp_path: Path, at_once: None
) -> None:
    (tmp_path / "video.toml").write_text(f'source = "{clip}"\n[spotting]\nmode = "video"\n')
    done = command("bench", "throughput", "video.toml", "--seconds", "1.5", "--json", "v.json")
    assert done.code == 0, done.err
    result = json.loads((tmp_path / "v.json").read_text())
    assert (result["lookahead_s"], result["lookahead"]) == (None, None)
    assert result["lookahead_reason"].startswith("whole-video mode: an event is known at the end of the video")
    assert "no look-ahead of the method in whole-video mode: " in done.out


def test_bench_latency_needs_more_than_two_seconds(command: Command, clip: Path) -> None:
    done = command("bench", "latency", clip, "--seconds", "0.5")
    assert done.code == 2
    assert "--seconds 0.5: expected at least 3" in done.err


@pytest.mark.parametrize("what", ["latency", "throughput"])
def test_bench_of_runs_refuses_what_it_cannot_measure(command: Command, clip: Path, tmp_path: Path, what: str) -> None:
    (tmp_path / "processes.toml").write_text('[pipeline]\nrunner = "processes"\n')
    for words, code, text in (
        ([], 2, "Missing argument"),
        (["gone.mp4"], 1, "no such file"),
        ([clip, "--seconds", "0"], 2, "capture.max_seconds"),
        ([clip, "--fps", "-5"], 2, "capture.fps"),
        ([clip, "--model", "nothing"], 1, "nothing"),
        ([clip, "--config", "processes.toml"], 2, "leave pipeline.runner at 'embedded'"),
        ([clip, "--json", "gone/l.json"], 2, "no folder gone"),
        *([([clip, "--picture", "l.png"], 2, "ends with .svg")] if what == "latency" else []),
    ):
        done = command("bench", what, *words)
        assert done.code == code, done
        assert text in done.err
    assert [file.name for file in tmp_path.iterdir()] == ["processes.toml"]
