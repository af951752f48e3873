from xml.etree import ElementTree

from stream_server.evaluation.result import Percentiles
from stream_server.load.chart import draw_latency
from stream_server.load.result import RunResult


def run(sessions: int, p99_s: float | None) -> RunResult:
    final = None if p99_s is None else Percentiles(9, p99_s / 4, p99_s / 2, p99_s)
    return RunResult(
        sessions=sessions,
        measured_s=1.0,
        is_interrupted=False,
        finished=sessions,
        refused={},
        refusals={},
        failed={},
        final=final,
        settled=None,
        partial=None,
        partial_is_by_word=False,
        hops={},
        flicker=None,
        wer=None,
        utterances=0,
        uncaptioned=0,
        lost=0,
        doubled=0,
        server=None,
        client=None,
        client_lag_p99_s=None,
    )


def test_the_picture_is_xml_with_a_point_for_each_run_inside_its_frame() -> None:
    picture = draw_latency("A < B", [run(32, 90.0), run(8, 0.4), run(16, None)])
    root = ElementTree.fromstring(picture)
    circles = [one for one in root if one.tag.endswith("circle")]
    assert len(circles) == 2 * 3
    assert all(
        48 <= float(one.attrib["cy"]) <= 352 and 60 <= float(one.attrib["cx"]) <= 630 for one in circles
    )
    lines = [one.attrib["points"] for one in root if one.tag.endswith("polyline")]
    xs = [float(pair.split(",")[0]) for pair in lines[0].split()]
    assert xs == sorted(xs)


def test_nothing_measured_is_an_empty_chart() -> None:
    root = ElementTree.fromstring(draw_latency("Nothing", []))
    assert not [one for one in root if one.tag.endswith("circle")]
