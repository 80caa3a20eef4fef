"""python -m gptctl, and the console script. Worker processes import this file too, so it imports nothing by itself."""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    """Run the command line."""
    from gptctl.cli import streams

    streams.prepare()
    try:
        from gptctl.cli.early import start_workers

        start_workers(sys.argv[1:])
    except BaseException as error:
        from gptctl.cli.main import report

        sys.exit(report(error))
    try:
        from gptctl.cli.main import main as run

        run()
    except KeyboardInterrupt:  # a second Ctrl-C, while the first one is reported
        os._exit(130)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # the command has ended, and only Python shuts down


if __name__ == "__main__":
    main()
