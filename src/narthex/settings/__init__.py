"""The settings tree, and the only reader of environment and configuration files.

Read in this order, later wins: defaults, the YAML file, `NARTHEX_*` (nested names by `__`), the command line.
`${NAME}` in the file stands for an environment variable.
"""

from narthex.settings.engine import Embedder, Engine, ImageModel, LocalModel
from narthex.settings.faults import Fault, Invalid
from narthex.settings.providers import Provider, ProviderModel
from narthex.settings.public import Fallbacks, PublicModel, Retry, Timeouts, Weighted
from narthex.settings.reader import DEFAULT_FILE, Reading, load, origins, read
from narthex.settings.speech import KokoroVoice, Speech
from narthex.settings.tree import Http, Log, Settings, Tls

__all__ = [
    "DEFAULT_FILE",
    "Embedder",
    "Engine",
    "Fallbacks",
    "Fault",
    "Http",
    "ImageModel",
    "Invalid",
    "KokoroVoice",
    "LocalModel",
    "Log",
    "Provider",
    "ProviderModel",
    "PublicModel",
    "Reading",
    "Retry",
    "Settings",
    "Speech",
    "Timeouts",
    "Tls",
    "Weighted",
    "load",
    "origins",
    "read",
]
