"""Whisper: loading weights, decoding batches, and the process that does it."""
