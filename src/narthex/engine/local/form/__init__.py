"""The form of an answer: calls of tools, thoughts, JSON. What the engine is held to, and how its text is read."""
