"""Models at rest: the sealed file, the keys that open it, and signatures of manifests.

``container`` is the file format, ``keys`` reads keys and wraps data keys with them, ``places`` reads secrets
from where they lie, ``signing`` says whose manifests are trusted. Knows bytes and paths, not models; imports
neither torch nor whisper, and writes nothing that it decrypted.
"""
