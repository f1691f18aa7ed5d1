"""A hard-pruned model made physically smaller, and proved equal.

:func:`compact` finds what zeros make removable (:mod:`~espalier.compact.dead`), takes it out of a
copy (:mod:`~espalier.compact.remove`) and compares the two (:mod:`~espalier.compact.proof`).
"""

from espalier.compact.compact import Compact as Compact
from espalier.compact.compact import Size as Size
from espalier.compact.compact import compact as compact
from espalier.compact.edits import AttributeEdit as AttributeEdit
from espalier.compact.edits import Edits as Edits
from espalier.compact.edits import SliceEdit as SliceEdit
from espalier.compact.proof import Proof as Proof
from espalier.compact.proof import compare as compare
from espalier.compact.remove import apply_edits as apply_edits
