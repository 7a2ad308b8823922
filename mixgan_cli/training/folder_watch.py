"""Stop a run whose folder is deleted or moved while it trains, and save its state where it can be resumed."""

from __future__ import annotations

import os
import weakref
from pathlib import Path

from mixgan_cli.errors import TrainingStopped
from mixgan_cli.runs import RunFolder, free_name
from mixgan_cli.runtime.io import error_summary
from mixgan_cli.training.checkpoint import State


class FolderWatch:
    """Notice that the folder of a run, which must exist, was deleted or moved.

    The folder stays open, so that no new folder can be taken for it and that it is found after a move.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self._handle = os.open(folder.path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._handle)

    @property
    def gone(self) -> bool:
        """True if the folder, or its configuration, is no longer in its place."""
        try:
            self.folder.config.stat()
            return not self._is_the_folder(self.folder.path)
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:  # a file system that does not answer for a while
            return False

    def stop_if_gone(self, state: State) -> None:
        """Save the state and stop if the folder is gone: in the folder if it was moved, else in a new one.

        Raises:
            TrainingStopped: the folder is gone. The message says where the state is.
        """
        if not self.gone:
            return
        moved_to = self._new_place()
        folder = RunFolder(moved_to or free_name(self.folder.path))
        last, nimg = folder.checkpoint("last"), f"{state.progress.nimg:,}"
        what = (
            f"moved to {moved_to} while the run was training"
            if moved_to
            else "deleted while the run was training, with its log, its samples and its older states"
        )
        try:
            if not moved_to:
                folder.write_config(state.config)
            state.save(last)
        except OSError as error:
            where = f"The state at {nimg} images could not be saved in {last} ({error_summary(error)})"
        else:
            again = "the same command" if folder.path == self.folder.path else f"paths.run={folder.path}"
            where = f"The state at {nimg} images is in {last}; {again} resumes it"
        raise TrainingStopped(f"{self.folder.path}: {what}. {where}")

    def _new_place(self) -> Path | None:
        """Return where the folder was moved; None if it was deleted, or if the system does not tell."""
        try:
            path = Path(f"/proc/self/fd/{self._handle}").readlink()
            return path if self._is_the_folder(path) and RunFolder(path).config.is_file() else None
        except OSError:
            return None

    def _is_the_folder(self, path: Path) -> bool:
        return os.path.samestat(os.fstat(self._handle), path.stat())
