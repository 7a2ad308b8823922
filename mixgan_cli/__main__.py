import sys

from mixgan_cli.cli import main

if __name__ == "__main__":  # not again in the processes of a run on several devices
    sys.exit(main())
