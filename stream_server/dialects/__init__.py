"""Foreign wire formats, turned into the messages of ``core`` and back. Pure."""
