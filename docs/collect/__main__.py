"""`make configuration`: write docs/configuration.md."""

from pathlib import Path

from docs.collect.keys import Conf
from docs.collect.page import page

(Path(__file__).parents[1] / "configuration.md").write_text(page(Conf()), encoding="utf-8")
