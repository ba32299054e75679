"""The command `altclip`, as the script of the wheel and as `python -m altclip`."""

from __future__ import annotations

import signal
import sys

from altclip import _native


def main() -> int:
    """Runs the command line of this process; gives back its exit status."""
    # The interpreter would only note a Ctrl-C and wait for the command to come back.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.stdout.flush()
    return _native.program(["altclip", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
