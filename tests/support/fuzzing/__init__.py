"""Fuzzing of every parser of bytes or text that a stranger or a file can give.

``target.py`` says what a target is and what counts as a crash; the modules beside it hold the targets, and
``catalogue.py`` names them. ``make fuzz`` runs them under atheris, which finds inputs by the branches that
they reach (``runner.py``, ``child.py``); ``tests/fuzz`` runs them over their seeds and ``mutation.py``'s, in
seconds and without atheris.
"""
