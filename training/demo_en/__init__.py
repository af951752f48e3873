"""The training pipeline of ``demo-en``, the small Whisper that stream-server carries.

Four steps, each a command of ``python -m training.demo_en``: *corpus* writes sentences, *speech* lets
synthesisers read them, *train* fits the network, *export* writes the checkpoint. Every step is seeded and
goes on where it was interrupted. It knows nothing of the server.
"""
