"""What the fork server imports first, and nobody else: it ends at once when its command is gone.

Taking numba and Arrow down in order takes 0.3 s, for which whoever reads the command's output would have to wait.
"""

from __future__ import annotations

import atexit
import os

atexit.register(os._exit, 0)
