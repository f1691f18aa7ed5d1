"""A hard-pruned model made physically smaller, and proved equal.

:func:`compact` finds what zeros make removable (:mod:`~espalier.compaction._dead`), takes it out of a
copy (:mod:`~espalier.compaction._remove`) and compares the two (:mod:`~espalier.compaction._proof`).
:func:`purify` makes more removable beforehand: weak columns, channels and filters, under a guard.
"""

from espalier.compaction._branches import Constant as Constant
from espalier.compaction._compact import Compact as Compact
from espalier.compaction._compact import Size as Size
from espalier.compaction._compact import compact as compact
from espalier.compaction._dead import remove_unused_paths as remove_unused_paths
from espalier.compaction._edits import AttributeEdit as AttributeEdit
from espalier.compaction._edits import BranchEdit as BranchEdit
from espalier.compaction._edits import ColumnEdit as ColumnEdit
from espalier.compaction._edits import Edits as Edits
from espalier.compaction._edits import NormEdit as NormEdit
from espalier.compaction._edits import SliceEdit as SliceEdit
from espalier.compaction._proof import Proof as Proof
from espalier.compaction._proof import compare as compare
from espalier.compaction._purification import Thresholds as Thresholds
from espalier.compaction._purification import weak_alone as weak_alone
from espalier.compaction._purification import weak_as_empty as weak_as_empty
from espalier.compaction._purify import Purified as Purified
from espalier.compaction._purify import purify as purify
from espalier.compaction._rehearsal import Rehearsal as Rehearsal
from espalier.compaction._rehearsal import rehearse as rehearse
from espalier.compaction._remove import apply_edits as apply_edits
