import sys

from mixgan_cli.cli import main

sys.exit(main())
