"""What the composition root counts."""

from pathlib import Path

import models

from stream_server.app import App
from stream_server.config import Config
from stream_server.core.jobs import GuardRule


def test_each_rule_of_the_guard_is_counted(tmp_path: Path) -> None:
    app = App(Config(), tmp_path)
    final, partial = models.decode_job(b"\0\0"), models.decode_job(b"\0\0", final=False)
    retried = (GuardRule.RATE, GuardRule.RATE)
    app._count_guard(final.answered(text="kept", language="en", now_s=0.0, retried=retried))
    app._count_guard(final.answered(text="", language="en", now_s=0.0, dropped=GuardRule.PHRASE))
    app._count_guard(partial.answered(text="", language="en", now_s=0.0, dropped=GuardRule.PHRASE))
    text = app._metrics.exposition().decode()
    assert 'stt_guard_retried_total{rule="rate"} 2.0' in text
    assert 'stt_guard_dropped_total{kind="final",rule="phrase"} 1.0' in text
    assert 'stt_guard_dropped_total{kind="partial",rule="phrase"} 1.0' in text
    assert "kept" not in text
