"""The training pipeline of ``demo-en``, the small Whisper that stream-server carries.

Four steps, each a command of ``python -m training.demo_en``: *corpus* writes sentences, *speech* lets
synthesisers read them, *train* fits the network, *export* writes the checkpoint. Every step is seeded and
goes on where it was interrupted. Three more tell what came of it: *recordings* reads held-out text to judge
models by, *rates* notes the error rates on them in a model's manifest, *card* describes the model for people.
The pipeline knows nothing of the server; *rates* runs its command.
"""
