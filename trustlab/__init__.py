"""Acknowledgement, reciprocity and advocacy, measured honestly from social exports"""

from importlib.metadata import PackageNotFoundError, version as _version

from trustlab import causal, charts, intervals, survival, trials
from trustlab.core import (
    Card, InvalidExport, InvalidParameter, Measure, NotIdentifiable, PartialExport, ReportFailed, ScopeWarning, SmallSample, StoreDamaged,
    StoreLocked, StoreVersion, TrustlabError, TrustlabWarning, UnknownSource, UnsafeArchive,
)
from trustlab.store import Lab
from trustlab import identity as _identity, privacy as _privacy
from trustlab.load import Receipt
from trustlab.business_time import Calendar
from trustlab.clusters import ranked
from trustlab.signals import classify
from trustlab import known_error as _known_error, learned as _learned
from trustlab.acknowledgement import acknowledgement, first_ends
from trustlab.waiting import worklist
from trustlab.platform_rates import page_response_rate, question_response_rate
from trustlab.care import after_care, care
from trustlab import retention as _retention
from trustlab.acts import from_acts
from trustlab.census import local_reciprocity, triads
from trustlab.reciprocity import reciprocity
from trustlab.returns import return_times
from trustlab.temporal_loops import loops, pay_forward
from trustlab.advocacy import advocates
from trustlab.journeys import conversion
from trustlab.contrasts import contrast, dose_response
from trustlab.effects import effect
from trustlab.networks import bystanders, circles, degrees, friendsource, person_view
from trustlab.sample import simulate, write
from trustlab import written as _written
from trustlab.report import report

try: __version__ = _version("trustlab")
except PackageNotFoundError: __version__ = "0"

__all__ = [
    "Lab", "Receipt", "Measure", "Card", "Calendar", "from_acts", "acknowledgement", "first_ends", "page_response_rate", "question_response_rate", "ranked",
    "worklist", "care", "after_care", "classify", "reciprocity", "return_times", "triads", "local_reciprocity", "loops", "pay_forward", "advocates", "conversion", "effect", "dose_response", "contrast", "bystanders", "degrees", "circles", "friendsource", "person_view", "report", "simulate", "write",
    "intervals", "survival", "causal", "trials", "charts", "TrustlabError", "UnknownSource", "InvalidExport", "UnsafeArchive", "InvalidParameter", "NotIdentifiable",
    "StoreLocked", "StoreDamaged", "StoreVersion", "ReportFailed", "TrustlabWarning", "PartialExport", "SmallSample", "ScopeWarning",
]
