"""``python -m certs``."""

from certs.cli import app

app(prog_name="python -m certs")
