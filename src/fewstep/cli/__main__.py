"""`python -m fewstep.cli`."""

import sys

from fewstep.cli.app import main

sys.exit(main())
