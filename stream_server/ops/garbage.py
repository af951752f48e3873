"""What Python's garbage collector is told once a process has loaded what it keeps for good."""

import gc


def freeze_what_is_loaded() -> None:
    """Leave modules and models out of the search for garbage from here on.

    Python searches old objects only when those that became old since the last search are a quarter of all.
    Modules and models are 230,000: what thousands of ended connections left would lie about until then. And
    each search would go through all of them and hold up every session meanwhile: 478 ms with 300 sessions,
    35 ms with this (``benchmarks/gateway.py``, 2026-11-21).
    """
    gc.collect()
    gc.freeze()
    gc.collect()  # Counts the old objects anew, without the frozen ones.
