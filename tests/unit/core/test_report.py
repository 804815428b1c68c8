import json
import math
import threading

from streamtrack.report import LossLedger, versions, write_report
from streamtrack.types import LostFrame


def test_consecutive_losses_of_one_cause_are_one_entry():
    ledger = LossLedger()
    for index, cause in [(3, "full"), (4, "full"), (5, "chunk"), (6, "full"), (9, "full")]:
        ledger.add(LostFrame(index, cause))
    assert ledger.count == 5
    assert ledger.as_ranges()["lost_frames"] == [
        {"first": 3, "last": 4, "cause": "full"},
        {"first": 5, "last": 5, "cause": "chunk"},
        {"first": 6, "last": 6, "cause": "full"},
        {"first": 9, "last": 9, "cause": "full"},
    ]
    assert ledger.by_cause() == {"full": 4, "chunk": 1}


def test_losses_from_two_threads_are_all_counted():
    ledger = LossLedger()

    def lose(cause):
        for index in range(2000):
            ledger.add(LostFrame(index, cause))

    threads = [threading.Thread(target=lose, args=(cause,)) for cause in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ledger.count == 4000


def test_a_report_is_replaced_whole(tmp_path):
    write_report(tmp_path, {"status": "running"})
    write_report(tmp_path, {"status": "completed", "limits": (-math.inf, math.nan, 1.5)})
    written = json.loads((tmp_path / "report.json").read_text())
    assert written == {"status": "completed", "limits": [None, None, 1.5]}
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_a_report_of_100000_gaps_is_small_and_says_what_it_leaves_out(tmp_path):
    ledger = LossLedger()
    for index in range(0, 200_000, 2):
        ledger.add(LostFrame(index, f"missing chunk: c/{index}/0/0"))
    write_report(tmp_path, {"lost": ledger.by_cause(), **ledger.as_ranges()})
    report = json.loads((tmp_path / "report.json").read_text())
    assert (tmp_path / "report.json").stat().st_size < 200_000
    assert len(report["lost_frames"]) + report["lost_ranges_left_out"] == 100_000
    assert sum(report["lost"].values()) == ledger.count == 100_000
    assert report["lost"]["other causes"] == 99_900


def test_versions_name_what_decides_the_result():
    assert {"python", "streamtrack", "numpy", "onnxruntime"} <= set(versions())
