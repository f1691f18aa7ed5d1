"""Runs: stages one after the other, into a folder that can be read and resumed at any moment."""

from espalier._ground.registry import discover
from espalier.runs._aims import OnLevelsOf, Planned, Round, SearchBits
from espalier.runs._folder import RunFolder
from espalier.runs._options import RunOptions
from espalier.runs._quality import QualityThreshold, Scanned
from espalier.runs._record import RunRecord, read_run
from espalier.runs._result import Result, StageResult, read_result
from espalier.runs._running import RunResult, run_stages
from espalier.runs._searching import Searched, worth_of
from espalier.runs._stage import Aim, Continue, Load, Redraw, Rewind, Stage, Start, check_stages
from espalier.runs._standard import Freeze, LotteryTicket, Procedure, Quantise, standard_stages

__all__ = [
    "Aim",
    "Continue",
    "Freeze",
    "Load",
    "LotteryTicket",
    "OnLevelsOf",
    "Planned",
    "Procedure",
    "QualityThreshold",
    "Quantise",
    "Redraw",
    "Result",
    "Rewind",
    "Round",
    "RunFolder",
    "RunOptions",
    "RunRecord",
    "RunResult",
    "Scanned",
    "SearchBits",
    "Searched",
    "Stage",
    "StageResult",
    "Start",
    "check_stages",
    "read_result",
    "read_run",
    "run_stages",
    "standard_stages",
    "worth_of",
]

discover(__name__, globals())
