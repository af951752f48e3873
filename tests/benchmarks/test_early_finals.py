"""The simulation keeps time as a server does, and loses nothing."""

import numpy as np
import pytest

from benchmarks.early_finals import FACTS, VARIANTS, Client, Prices, Simulation, Variant
from stream_server.engine.fake import numbered_speech, silence
from stream_server.load.plan import ClientPlan

SPOKEN, SILENT, TURNS = 60, 40, 3
AUDIO = np.concatenate([numbered_speech(range(SPOKEN)), silence(SILENT)] * TURNS)
SCORES = ([1.0] * SPOKEN + [0.0] * SILENT) * TURNS


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_final_comes_at_the_time_that_its_pause_and_the_engine_take(variant: Variant) -> None:
    plan = ClientPlan(0, 0.5, (), len(AUDIO))
    client = Client(plan, variant.settings(), SCORES)
    simulation = Simulation([client], [AUDIO], Prices(20.0, 10.0, 0.0))
    assert FACTS.can_time_words
    simulation.run()
    assert [arrival.event.segment for arrival in client.finals] == list(range(TURNS))
    for number, arrival in enumerate(client.finals):
        spoken_s = 0.032 * (number * (SPOKEN + SILENT) + SPOKEN)
        # The pause of 480 ms, a chunk of 100 ms, a tick of 32 ms and its 5 ms, and the engine's 30 ms.
        assert spoken_s + 0.48 < arrival.at_s < spoken_s + 0.65
    is_early = variant.is_early
    kinds = {kind for kind, n_jobs in simulation.n_decoded.items() if n_jobs}
    assert kinds == ({"early", "partial"} if is_early else {"final", "partial"})
    decoding_s = [budget.queue + budget.decode for _, budget in client.budgets]
    assert max(decoding_s) == pytest.approx(0.0 if is_early else 0.03, abs=0.001)
