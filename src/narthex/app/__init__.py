"""A worker: everything it serves is built here, from one frozen value, and nowhere else.

Run as `python -m narthex.app --notify FD --listen FD` with `WorkerSettings` on standard input.
"""
