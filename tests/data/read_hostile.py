"""Read files as data sets, one after another: python -m tests.data.read_hostile KIND=PATH…

Print a line of JSON for each: the error, and the peak memory of the process so far in MiB. The program believes that
the machine has half a GiB, and an address-space limit of 4 GiB stops it if it takes far more.
"""

import json
import resource
import sys
import tempfile
from importlib import import_module
from pathlib import Path

from mixgan_cli.data.archives import Archive
from mixgan_cli.data.datasets.arrays import Arrays
from mixgan_cli.data.datasets.cifar10 import CIFAR10
from mixgan_cli.data.datasets.folder import Flowers102, Folder
from mixgan_cli.data.datasets.mnist import MNIST
from mixgan_cli.data.datasets.stl10 import STL10
from mixgan_cli.data.images import Preprocessing, read_images

READ = {
    "folder": lambda root: Folder(root, 16, "center", 3, 0.5, 0, False, False).load(),
    "images": lambda root: read_images(Archive(Path(root), "images"), Preprocessing(None, "none", 3)),
    "flowers": lambda root: Flowers102(root, 16, "center", 3, 0.5, 0, True, False).load(),
    "cifar": lambda root: CIFAR10(root, 32, True).load(),
    "stl": lambda root: STL10(root, 96, True).load(),
    "mnist": lambda root: MNIST(root, 28, True).load(),
    "arrays": lambda root: Arrays(root, "images", None, 0.5, 0, False).load(),
}


def peak_memory() -> int:
    """Return the peak memory so far in MiB. That of getrusage would include the parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


if __name__ == "__main__":
    for module in ("data.archives", "data.images", "data.datasets.arrays"):
        import_module(f"mixgan_cli.{module}").total_memory = lambda: 2**29
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + 2**32, taken + 2**32))
    print(json.dumps(["", peak_memory()]))
    with tempfile.TemporaryDirectory() as cache:
        for argument in sys.argv[1:]:
            kind, _, path = argument.partition("=")
            try:
                READ[kind](path)
                result = "it was read"
            except Exception as error:
                result = f"{type(error).__name__}: {error}"
            print(json.dumps([result, peak_memory()]), flush=True)
