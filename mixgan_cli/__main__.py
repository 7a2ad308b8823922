"""The program `mixgan`: it answers signals from its first moment."""

from __future__ import annotations

import signal
import sys


def main() -> int:
    """Run the command of the command line. Ctrl+C ends the imports without a traceback."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not ignored, as in the background of a shell
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from mixgan_cli import cli

    return cli.main()


if __name__ == "__main__":  # not again in the processes of a run on several devices
    sys.exit(main())
