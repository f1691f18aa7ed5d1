"""``python -m espalier``, where the ``espalier`` command is not on the path, and for ``torchrun``."""

import sys

from espalier.cli import main

sys.exit(main())
