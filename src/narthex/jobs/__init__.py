"""Durable work beside the requests: taken from the store, done with heartbeats, ended with a reason."""
