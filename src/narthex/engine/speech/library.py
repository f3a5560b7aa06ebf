"""espeak-ng from its library, for machines without the program: takes the same arguments, and does the same.

`python -m narthex.engine.speech.library -v VOICE -s WPM -b 1 --stdin --stdout`, or `-v VOICE -q --ipa --stdin`. A
process of its own: the library is under the GPL, works with global state, and may crash. Source: espeak-ng's
`speak_lib.h`, revision 12.
"""

import argparse
import ctypes
import importlib.util
import os
import sys
from pathlib import Path

from narthex.core.speech import wav_header
from narthex.engine.speech.espeak import LIBRARY, USUAL_WPM

_RETRIEVAL, _SYNCHRONOUS_BUFFER_MS = 1, 100
_UTF8, _IPA = 1, 2
_PACE = 1
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


def main() -> int:
    """Speak what stands on the standard input, or tell its phonemes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("-v", dest="voice", required=True)
    parser.add_argument("-s", dest="pace", type=int, default=USUAL_WPM)
    parser.add_argument("--ipa", action="store_true")
    for ignored in ("-b", "-q", "--stdin", "--stdout"):
        parser.add_argument(ignored, action="store" if ignored == "-b" else "store_true")
    asked = parser.parse_args()
    text = sys.stdin.buffer.read()
    found = importlib.util.find_spec(LIBRARY)
    if found is None or found.origin is None:
        print("the package espeakng-loader is not installed", file=sys.stderr)  # noqa: T201 - told to whoever started us
        return 1
    folder = Path(found.origin).parent
    os.chdir(folder)  # the library takes no path of more than 160 bytes
    ending = {"darwin": "dylib", "win32": "dll"}.get(sys.platform, "so")
    library = ctypes.CDLL(str(folder / f"libespeak-ng.{ending}"))
    rate = library.espeak_Initialize(_RETRIEVAL, _SYNCHRONOUS_BUFFER_MS, b".", 0)
    if rate <= 0 or library.espeak_SetVoiceByName(asked.voice.encode()) != 0:
        print(f"espeak-ng can't speak as {asked.voice}", file=sys.stderr)  # noqa: T201 - as above
        return 1
    return _told(library, text) if asked.ipa else _spoken(library, text, rate=rate, pace=asked.pace)


def _spoken(library: ctypes.CDLL, text: bytes, *, rate: int, pace: int) -> int:
    out = sys.stdout.buffer
    out.write(wav_header(rate))

    def spoken(samples: "ctypes._Pointer[ctypes.c_short]", count: int, _events: int | None) -> int:
        try:
            if count > 0:
                out.write(ctypes.string_at(samples, count * 2))
                out.flush()
        except OSError:
            return 1  # nobody listens any more: speak no further
        return 0

    callback = _CALLBACK(spoken)
    library.espeak_SetSynthCallback(callback)
    library.espeak_SetParameter(_PACE, pace, 0)
    failed = library.espeak_Synth(text, ctypes.c_size_t(len(text) + 1), 0, 0, 0, _UTF8, None, None)
    library.espeak_Synchronize()
    out.flush()
    return 1 if failed else 0


def _told(library: ctypes.CDLL, text: bytes) -> int:
    """The phonemes, a line for each clause."""
    library.espeak_TextToPhonemes.restype = ctypes.c_char_p
    left = ctypes.c_char_p(text)
    while left.value:
        phonemes: bytes | None = library.espeak_TextToPhonemes(ctypes.byref(left), _UTF8, _IPA)
        sys.stdout.buffer.write((phonemes or b"") + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
