"""The ASGI side: surfaces, admin, health, metrics."""
