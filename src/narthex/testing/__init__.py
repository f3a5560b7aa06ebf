"""Fakes and scripted peers, for our tests and for other people's extensions."""
