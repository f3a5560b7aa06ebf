"""`python -m narthex.testing.replanned`: writes the file that standard input names, in place of a plan made anew."""

import sys
from pathlib import Path

import msgspec

if __name__ == "__main__":
    sys.stdout.buffer.write(Path(msgspec.json.decode(sys.stdin.buffer.readline(), type=str)).read_bytes())
