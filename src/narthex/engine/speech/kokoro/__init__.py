"""Kokoro: a small neural voice, in a process of its own. See docs/design/speech.md."""
