"""Runs of ``stream-server bench``, as values."""

from stream_server.evaluation.result import Percentiles
from stream_server.load.result import RunResult
from stream_server.load.usage import Usage

GOOD_RUN = RunResult(
    sessions=8,
    measured_s=60.0,
    is_interrupted=False,
    finished=8,
    refused={},
    refusals={},
    failed={},
    final=Percentiles(9, 0.5, 0.6, 0.7),
    settled=None,
    partial=None,
    partial_is_by_word=False,
    hangover=None,
    hops={},
    flicker=None,
    wer=None,
    utterances=9,
    uncaptioned=0,
    lost=0,
    doubled=0,
    server=None,
    client=Usage(0.2, 10**8),
    client_lag_p99_s=0.01,
)
"""Everything as it should be."""
