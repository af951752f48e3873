import os
import subprocess
import sys

from stream_server.load.usage import Meter, parse_rollup, parse_stat, read_usage

STAT = "42 (a) b) (c) S 7 42 42 0 -1 4194304 1 2 3 4 250 50 9 9 20 0 1 0 5 6 7"


def test_a_stat_line_is_read_whatever_the_name_holds() -> None:
    assert parse_stat(STAT) == (7, 300)


def test_memory_is_the_proportional_share_and_none_of_a_process_without_any() -> None:
    assert parse_rollup("00-ff ---p [rollup]\nRss: 900 kB\nPss: 12 kB\nPss_Dirty: 3 kB\n") == 12 * 1024
    assert parse_rollup("") == 0


def test_a_process_counts_with_its_descendants() -> None:
    child = (
        "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', 'input()']);"
        "print(p.pid, flush=True); p.wait()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", child], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        try:
            assert parent.stdout is not None
            grandchild = int(parent.stdout.readline())
            both, one = read_usage([parent.pid]), read_usage([grandchild])
        finally:
            parent.communicate("\n")
    assert both is not None
    assert one is not None
    assert both.memory_bytes > one.memory_bytes > 1_000_000
    assert read_usage([grandchild]) is None


def test_a_meter_needs_two_looks_and_counts_the_time_between() -> None:
    meter = Meter([os.getpid()])
    meter.sample()
    assert meter.usage is None
    while meter.usage is None or meter.usage.cores < 0.01:
        meter.sample()
    assert meter.usage.cores < 3
    assert Meter([]).usage is None
