"""Installed models: the folder that holds them, and how checkpoints get into it.

``store`` owns STATE/models; ``importing`` turns a checkpoint into a model folder; ``download`` is the only
part of the product that opens an outbound connection, and only ``stream-server models pull`` calls it.
"""
