from __future__ import annotations

import json
from pathlib import Path

from outcome import Command


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
