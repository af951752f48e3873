from itertools import pairwise
from xml.etree import ElementTree

from stream_server.evaluation.result import Percentiles
from stream_server.load.chart import (
    BOTTOM_PX,
    HEIGHT_PX,
    LABEL_PX,
    LEFT_PX,
    RIGHT_PX,
    TOP_PX,
    WIDTH_PX,
    draw_latency,
)
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
        hangover=None,
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
        TOP_PX <= float(one.attrib["cy"]) <= HEIGHT_PX - BOTTOM_PX
        and LEFT_PX <= float(one.attrib["cx"]) <= WIDTH_PX - RIGHT_PX
        for one in circles
    )
    lines = [one.attrib["points"] for one in root if one.tag.endswith("polyline")]
    xs = [float(pair.split(",")[0]) for pair in lines[0].split()]
    assert xs == sorted(xs)


def test_nothing_measured_is_an_empty_chart() -> None:
    root = ElementTree.fromstring(draw_latency("Nothing", []))
    assert not [one for one in root if one.tag.endswith("circle")]


def test_ticks_are_round_numbers_and_names_do_not_lie_on_each_other() -> None:
    root = ElementTree.fromstring(draw_latency("A", [run(8, 0.01), run(63, 0.01)], limit=60))
    texts = {one.text: one for one in root if one.tag.endswith("text")}
    assert [f"{n}" in texts for n in (0, 10, 60, 63)] == [True, True, True, False]
    assert {"0.0 s", "1.0 s", "limit: 60"} <= texts.keys()
    ys = sorted(float(texts[name].attrib["y"]) for name in ("p50", "p95", "p99"))
    assert all(below - above >= LABEL_PX - 0.1 for above, below in pairwise(ys))


def test_the_number_to_plan_for_has_a_line_of_its_own_with_its_latency() -> None:
    runs = [run(8, 1.0), run(10, 1.2)]
    root = ElementTree.fromstring(draw_latency("A", runs, limit=10, planned=runs[0]))
    texts = {one.text: one for one in root if one.tag.endswith("text")}
    assert "80%: 8, p95 0.50 s" in texts
    apart = float(texts["limit: 10"].attrib["y"]) - float(texts["80%: 8, p95 0.50 s"].attrib["y"])
    assert apart >= LABEL_PX


def test_of_two_runs_with_as_many_sessions_the_later_is_drawn() -> None:
    once, twice = (draw_latency("A", runs) for runs in ([run(8, 0.4)], [run(8, 2.0), run(8, 0.4)]))
    assert once == twice
