"""python -m gptctl, and the console script. Worker processes import this file too, so it imports nothing by itself."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line."""
    from gptctl.cli.early import start_workers

    try:
        start_workers(sys.argv[1:])
    except Exception as error:
        from gptctl.cli.main import report

        sys.exit(report(error))
    from gptctl.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
