from xml.etree import ElementTree

import pytest

from stream_server.evaluation.chart import draw_chart
from stream_server.evaluation.counts import Counts, count_errors, count_invented, pool
from stream_server.evaluation.flicker import Flicker
from stream_server.evaluation.report import Setting, as_json, error_row, latency_row
from stream_server.evaluation.result import (
    Measured,
    Percentiles,
    Streamed,
    per_file,
    per_group,
    percentiles,
    summarise,
)


def measured(name: str, group: str, counts: Counts, streamed: Streamed | None = None) -> Measured:
    return Measured(name, {"voice": group}, "said", "read", counts, 2.0, 0.5, streamed)


ONE = measured("a", "x", Counts(4, 1, 10, 2), Streamed((0.1, 0.3), (0.5,), Flicker(1, 4), (0.2, 0.4)))
TWO = measured("b<&>", "x", Counts(6, 1, 10, 1), Streamed((0.2,), (), Flicker(0, 6)))
THREE = measured("c", "w", Counts(10, 0, 20, 0))
SILENT = Measured("d", {"voice": "nobody"}, "", "oh no", count_invented("oh no"), 2.0, 0.5, speech=False)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        pytest.param("a b c", "a b c", Counts(3, 0, 5, 0), id="ok/same"),
        pytest.param("a b c", "a x c", Counts(3, 1, 5, 1), id="ok/substituted"),
        pytest.param("a b c", "", Counts(3, 3, 5, 5), id="ok/nothing-read"),
        pytest.param("a", "a b", Counts(1, 1, 1, 2), id="ok/inserted"),
    ],
)
def test_words_and_characters_are_counted(reference: str, hypothesis: str, expected: Counts) -> None:
    assert count_errors(reference, hypothesis) == expected


def test_pooled_rates_weigh_words_and_nothing_has_no_rate() -> None:
    assert pool([ONE.counts, TWO.counts]).wer == pytest.approx(0.2)
    assert pool([]).wer is None
    assert pool([]).cer is None


def test_what_is_read_where_nobody_speaks_is_inserted_and_told_apart() -> None:
    assert count_invented("") == Counts()
    assert SILENT.counts == Counts(0, 2, 0, 5, invented_words=2)
    assert SILENT.counts.wer is None
    total = summarise("all", [ONE, SILENT])
    assert total.counts.wer == pytest.approx(3 / 4)
    assert error_row(total)[1:5] == ("4", "75.0%", "70.0%", "2")
    assert error_row(summarise("d", [SILENT])) == ("d", "0", "-", "-", "2", "0.25")


def test_groups_are_sorted_and_add_up() -> None:
    assert [(one.name, one.n_files, one.counts.words) for one in per_group([ONE, TWO, THREE], "voice")] == [
        ("w", 1, 10),
        ("x", 2, 10),
    ]


def test_latencies_of_a_summary_are_pooled() -> None:
    total = summarise("all", [ONE, TWO, THREE])
    assert total.partial == Percentiles(3, 0.2, 0.3, 0.3)
    assert total.final == Percentiles(1, 0.5, 0.5, 0.5)
    assert total.flicker == Flicker(1, 10)
    assert total.real_time_factor == pytest.approx(0.25)
    assert percentiles([]) is None


def test_rows_show_a_dash_where_nothing_was_measured() -> None:
    assert error_row(summarise("all", [THREE])) == ("all", "10", "0.0%", "0.0%", "-", "0.25")
    assert error_row(summarise("all", [])) == ("all", "0", "-", "-", "-", "-")
    assert latency_row(summarise("all", [THREE])) == ("all", "-", "-", "-", "-")
    assert latency_row(summarise("a", [ONE])) == (
        "a",
        "0.20 0.40 0.40",
        "0.10 0.30 0.30",
        "0.50 0.50 0.50",
        "0.25",
    )


def test_the_json_result_has_all_files_and_groups() -> None:
    setting = Setting("list.json", "demo", "stream", ("voice",), "a cpu", "2026-01-01T00:00:00+00:00", {})
    result = as_json(setting, [ONE, TWO], ["broken"])
    assert [one["name"] for one in result["files"]] == ["a", "b<&>"]  # type: ignore[attr-defined]  # JSON
    groups = [(one["field"], one["name"]) for one in result["groups"]]  # type: ignore[attr-defined]  # JSON
    assert groups == [("voice", "x")]
    assert result["all"]["wer"] == pytest.approx(0.2)  # type: ignore[index]  # JSON
    assert result["problems"] == ["broken"]


def test_the_chart_is_xml_with_one_bar_for_each_name() -> None:
    root = ElementTree.fromstring(draw_chart("T & T", per_file([ONE, TWO])))
    texts = [node.text for node in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts == ["T & T", "a", "25.0%", "b<&>", "16.7%"]


def test_a_chart_of_nothing_is_still_a_picture() -> None:
    ElementTree.fromstring(draw_chart("none", []))
