"""The version of this program: a test holds it to pyproject.toml. (importlib.metadata would cost the collector a megabyte.)"""

from typing import Final

VERSION: Final = "0.1.0"
