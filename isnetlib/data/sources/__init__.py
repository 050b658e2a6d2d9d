"""Public data sets: `prepare` makes a dataset folder of what its publisher ships; cards.yaml says what each one is."""

from isnetlib.data.sources.prepare import card, prepare
from isnetlib.data.sources.publishers import SourceError

__all__ = ["SourceError", "card", "prepare"]
