"""Public data sets, one module each: a card of what it is, and `read`, which lists its publisher's folder."""

from isnetlib.data.sources import (
    actualmed,
    bimcv,
    brixia,
    celebamask_hq,
    chexpert,
    figure1,
    hannover,
    ieee8023,
    jsrt,
    montgomery,
    nih,
    shenzhen,
    tbx11k,
)
from isnetlib.data.sources.convert import prepare
from isnetlib.data.sources.layout import Card, Item, SourceError

__all__ = ["SOURCES", "Card", "Item", "SourceError", "prepare"]

MODULES = (montgomery, shenzhen, jsrt, ieee8023, hannover, actualmed, figure1, nih, tbx11k, brixia, bimcv, chexpert)
MODULES += (celebamask_hq,)
SOURCES = {module.__name__.rpartition(".")[2]: module for module in MODULES}
