"""The study of docs/study.md: keep its runs as records, and write its tables from them.

python -m docs.study outputs/study     add the finished runs in a folder to docs/records/study.jsonl (make study-tables)
python -m docs.study                   write the tables of docs/study.md from the records
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mixgan_cli.config.components import TARGET, class_name
from mixgan_cli.reporting.statistics import Estimate, holm, mean_estimate
from mixgan_cli.runs import RunFolder
from mixgan_cli.runtime.io import write_text

PAGE = Path(__file__).with_name("study.md")
RECORDS = Path(__file__).parent / "records" / "study.jsonl"
DATA = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST"}
SMALL = "none, 32 latents"
"""A single generator with the layers of the mixtures, and so fewer parameters."""
GATES = {
    "NoGate": "none",
    "UniformGate": "uniform",
    "SoftmaxGate": "softmax",
    "TreeGate": "tree",
    "GumbelGate": "gumbel",
}
HEADS = {"ScoreHead": "score", "ClassifierHead": "classifier", "MulticlassHead": "multiclass"}
OBJECTIVES = ("r1", "wgan_gp", "r3gan")
SINGLE = {65: 2, 262: 8, 1055: 32}
"""The K of the mixture that has as many parameters as a single generator, by the size of its latents."""
METRIC = "fid_classifier"
KEPT = ("fid_classifier", "ms_ssim", "nmi", "nmi_by_level", "gate_entropy", "expert_usage")


class Cell(NamedTuple):
    """A configuration of the study. A single generator has the K of the mixtures that it is compared with."""

    data: str
    gate: str
    head: str
    objective: str
    k: int


def record_of(run: RunFolder) -> dict[str, Any]:
    """Return what the study keeps of a finished run."""
    config, results = run.read_config(), run.read_results()
    model, k = config["model"], config["model"]["k"]
    gate, head = GATES[class_name(model["gate"][TARGET])], HEADS[class_name(model["head"][TARGET])]
    if gate == "none":
        gate, k = ("none", SINGLE[size]) if (size := model["latent"]["size"]) in SINGLE else (SMALL, 8)
    cell = Cell(config["data"]["name"], gate, head, config["choices"]["objective"], k)
    return {
        **cell._asdict(),
        "seed": config["seed"],
        "hash": results.run["hash"],
        "parameters": results.run["parameters"]["generator"],
        "seconds": round(results.run["seconds"], 1),
        **{name: results.metrics[name] for name in KEPT if name in results.metrics},
    }


def add(folder: Path) -> None:
    """Add the finished runs in a folder to the records. A run replaces the record of the same cell and seed."""
    records = {key_of(each): each for each in read_records()}
    for done in sorted(folder.glob("*/DONE")):
        record = record_of(RunFolder(done.parent))
        records[key_of(record)] = record
    lines = [json.dumps(records[key]) for key in sorted(records)]
    write_text(RECORDS, "".join(f"{line}\n" for line in lines))


def read_records() -> list[dict[str, Any]]:
    """Return the records of all runs."""
    return [json.loads(line) for line in RECORDS.read_text().splitlines()] if RECORDS.is_file() else []


def key_of(record: dict[str, Any]) -> tuple[Cell, int]:
    """Return the cell and the seed of a run."""
    return Cell(*(record[name] for name in Cell._fields)), record["seed"]


class Study:
    """The values of all cells, by seed, and the tables made of them."""

    def __init__(self, records: Iterable[dict[str, Any]]) -> None:
        self.by_cell: dict[Cell, dict[int, dict[str, Any]]] = {}
        for record in records:
            cell, seed = key_of(record)
            self.by_cell.setdefault(cell, {})[seed] = record

    def values(self, cell: Cell, metric: str = METRIC) -> dict[int, float]:
        """Return the value of each seed of a cell; none if it has no runs."""
        return {seed: each[metric] for seed, each in self.by_cell.get(cell, {}).items()}

    def difference(self, cell: Cell, reference: Cell) -> Estimate:
        """Return the mean difference of two cells, paired by seed."""
        one, other = self.values(cell), self.values(reference)
        return mean_estimate(np.array([one[seed] - other[seed] for seed in sorted(one.keys() & other.keys())]))

    def compared(
        self, cells: Sequence[Cell], reference: Callable[[Cell], Cell], names: Callable[[Cell], list[str]]
    ) -> list[list[str]]:
        """Return rows for the cells that have runs: their names, value, and difference from the reference of each.

        p-values have Holm's correction over the rows.
        """
        cells = [cell for cell in cells if cell in self.by_cell]
        differences = [self.difference(cell, reference(cell)) if cell != reference(cell) else None for cell in cells]
        corrected = holm([each.p if each else None for each in differences])
        rows = []
        for cell, difference, p in zip(cells, differences, corrected, strict=True):
            values = np.array(list(self.values(cell).values()))
            spread = f" ± {values.std(ddof=1):.2f}" if len(values) > 1 else ""
            rows.append([*names(cell), f"{values.mean():.2f}{spread} ({len(values)})", *difference_text(difference, p)])
        return rows

    def gates(self) -> list[list[str]]:
        """Return the table of gates: each against the single generator with as many parameters."""
        return self._gates("none", [SMALL, *GATES.values()])

    def layers(self) -> list[list[str]]:
        """Return the table of gates: each against the single generator with the layers of the mixtures."""
        return self._gates(SMALL, [SMALL, *list(GATES.values())[1:]])

    def _gates(self, reference: str, gates: Sequence[str]) -> list[list[str]]:
        """Return a table of gates, each against the reference with the same data and objective."""
        cells = [Cell(data, gate, "score", loss, 8) for data in DATA for loss in OBJECTIVES for gate in gates]
        rows = self.compared(
            cells,
            lambda cell: cell._replace(gate=reference),
            lambda cell: [DATA[cell.data], f"`{cell.objective}`", cell.gate],
        )
        return [["data", "objective", "gate", *VALUE, *DIFFERENCE], *rows]

    def heads(self) -> list[list[str]]:
        """Return the table of heads: each against `score` with the same data and gate."""
        gates = [gate for gate in GATES.values() if gate != "none"]
        cells = [Cell(data, gate, head, "r1", 8) for data in DATA for gate in gates for head in HEADS.values()]
        rows = self.compared(
            cells, lambda cell: cell._replace(head="score"), lambda cell: [DATA[cell.data], cell.gate, cell.head]
        )
        return [["data", "gate", "head", *VALUE, *DIFFERENCE], *rows]

    def experts(self) -> list[list[str]]:
        """Return the table of K: each mixture against the single generator with as many parameters."""
        gates = (SMALL, "none", "uniform", "tree")
        cells = [Cell(data, gate, "score", "r1", k) for data in DATA for k in (2, 8, 32) for gate in gates]
        rows = self.compared(
            cells, lambda cell: cell._replace(gate="none"), lambda cell: [DATA[cell.data], str(cell.k), cell.gate]
        )
        return [["data", "K", "gate", *VALUE, *DIFFERENCE], *rows]

    def classes(self) -> list[list[str]]:
        """Return the table of what the experts have to do with the classes."""
        rows = [["data", "objective", "K", "gate", "head", "NMI of experts and classes", "NMI by level of the tree"]]
        for cell in sorted(self.by_cell):
            runs = self.by_cell[cell].values()
            if cell.gate in ("none", SMALL):
                continue
            nmi = np.array([run["nmi"] for run in runs])
            levels = [run["nmi_by_level"] for run in runs if run.get("nmi_by_level")]
            by_level = ", ".join(f"{value:.3f}" for value in np.mean(levels, axis=0)) if levels else ""
            spread = f" ± {nmi.std(ddof=1):.3f}" if len(nmi) > 1 else ""
            named = [DATA[cell.data], f"`{cell.objective}`", str(cell.k), cell.gate, cell.head]
            rows.append([*named, f"{nmi.mean():.3f}{spread} ({len(nmi)})", by_level])
        return rows


VALUE = ("`fid_classifier` ↓ (seeds)",)
DIFFERENCE = ("difference", "95 % interval", "p (Holm)")


def difference_text(difference: Estimate | None, p: float | None) -> list[str]:
    """Return the cells of a difference: value, interval, corrected p; dashes for the reference itself."""
    if difference is None or difference.value is None:
        return ["–", "–", "–"]
    interval = "–" if difference.half is None else f"{difference.low:.2f} to {difference.high:.2f}"
    return [f"{difference.value:+.2f}", interval, "–" if p is None else f"{p:.2g}"]


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return a table as Markdown."""
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def filled(page: str, study: Study) -> str:
    """Return the page with its tables, which stand between `<!-- NAME -->` and `<!-- end -->`, made from the study."""

    def table(found: re.Match[str]) -> str:
        return f"<!-- {found[1]} -->\n\n{markdown(getattr(study, found[1])())}\n\n<!-- end -->"

    return re.sub(r"<!-- (gates|layers|heads|experts|classes) -->.*?<!-- end -->", table, page, flags=re.DOTALL)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        add(Path(argument))
    write_text(PAGE, filled(PAGE.read_text(), Study(read_records())))
