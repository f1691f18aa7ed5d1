"""A hard-pruned model made physically smaller, and proved equal.

:func:`compact` finds what zeros make removable (:mod:`~espalier.compaction.dead`), takes it out of a
copy (:mod:`~espalier.compaction.remove`) and compares the two (:mod:`~espalier.compaction.proof`).
:func:`purify` makes more removable beforehand: weak columns, channels and filters, under a guard.
"""

from espalier.compaction.compact import Compact as Compact
from espalier.compaction.compact import Size as Size
from espalier.compaction.compact import compact as compact
from espalier.compaction.edits import AttributeEdit as AttributeEdit
from espalier.compaction.edits import ColumnEdit as ColumnEdit
from espalier.compaction.edits import Edits as Edits
from espalier.compaction.edits import SliceEdit as SliceEdit
from espalier.compaction.proof import Proof as Proof
from espalier.compaction.proof import compare as compare
from espalier.compaction.purification import Thresholds as Thresholds
from espalier.compaction.purification import weak_alone as weak_alone
from espalier.compaction.purification import weak_as_empty as weak_as_empty
from espalier.compaction.purify import Purified as Purified
from espalier.compaction.purify import purify as purify
from espalier.compaction.remove import apply_edits as apply_edits
from espalier.compaction.unused import remove_unused_paths as remove_unused_paths
