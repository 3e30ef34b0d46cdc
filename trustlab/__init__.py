"""Acknowledgement, reciprocity and advocacy, measured honestly from social exports"""

from importlib.metadata import PackageNotFoundError, version as _version

from trustlab import charts, intervals, survival
from trustlab.core import (
    Card, InvalidExport, InvalidParameter, Measure, NotIdentifiable, PartialExport, ReportFailed, ScopeWarning, SmallSample, StoreDamaged,
    StoreLocked, StoreVersion, TrustlabError, TrustlabWarning, UnknownSource, UnsafeArchive,
)
from trustlab.store import Lab
from trustlab import identity as _identity, privacy as _privacy
from trustlab.load import Receipt
from trustlab.signals import signals as _signals
from trustlab.acknowledgement import acknowledgement, worklist
from trustlab import retention as _retention
from trustlab.reciprocity import from_acts, reciprocity
from trustlab.advocacy import conversion
from trustlab.sample import simulate, write
from trustlab.report import report

try: __version__ = _version("trustlab")
except PackageNotFoundError: __version__ = "0"

__all__ = [
    "Lab", "Receipt", "Measure", "Card", "from_acts", "acknowledgement", "worklist", "reciprocity", "conversion", "report", "simulate", "write",
    "intervals", "survival", "charts", "TrustlabError", "UnknownSource", "InvalidExport", "UnsafeArchive", "InvalidParameter", "NotIdentifiable",
    "StoreLocked", "StoreDamaged", "StoreVersion", "ReportFailed", "TrustlabWarning", "PartialExport", "SmallSample", "ScopeWarning",
]
