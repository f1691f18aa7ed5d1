"""``python -m espalier.cli``, where the ``espalier`` command is not on the path."""

import sys

from espalier.cli import main

sys.exit(main())
