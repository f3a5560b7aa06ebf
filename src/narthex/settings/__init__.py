"""The settings tree, and the only reader of environment and configuration files.

Read in this order, later wins: defaults, the YAML file, `NARTHEX_*` (nested names by `__`), the command line.
`${NAME}` in the file stands for an environment variable.
"""

from narthex.settings.engine import Embedder, Engine, LocalModel
from narthex.settings.providers import Provider, ProviderModel
from narthex.settings.public import Fallbacks, PublicModel, Retry, Timeouts, Weighted
from narthex.settings.reader import DEFAULT_FILE, load, origins
from narthex.settings.tree import Http, Log, Settings, Tls

__all__ = [
    "DEFAULT_FILE",
    "Embedder",
    "Engine",
    "Fallbacks",
    "Http",
    "LocalModel",
    "Log",
    "Provider",
    "ProviderModel",
    "PublicModel",
    "Retry",
    "Settings",
    "Timeouts",
    "Tls",
    "Weighted",
    "load",
    "origins",
]
