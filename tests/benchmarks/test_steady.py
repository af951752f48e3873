from benchmarks.steady import Sample, rise_of


def samples(kb_per_minute: float, cores_per_minute: float) -> list[Sample]:
    """Of 20 sessions, twice a minute for 10 minutes, the first two of which do not count."""
    return [
        Sample(i / 2, 0.5 + cores_per_minute * i / 2 + (i < 4), round(3e8 + 20_000 * kb_per_minute * i / 2))
        for i in range(20)
    ]


def test_what_does_not_rise_is_steady_whatever_the_first_fifth_was() -> None:
    rise = rise_of(samples(0, 0), 20)
    assert rise.is_steady
    assert abs(rise.kb_per_minute) + abs(rise.cpu_share) < 1e-6


def test_memory_that_rises_for_each_session_is_told() -> None:
    rise = rise_of(samples(6, 0), 20)
    assert abs(rise.kb_per_minute - 6) < 1e-3
    assert not rise.is_steady


def test_processor_time_that_rises_is_told() -> None:
    rise = rise_of(samples(0, 0.02), 20)
    assert 0.2 < rise.cpu_share < 0.3
    assert not rise.is_steady
