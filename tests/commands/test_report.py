"""`mixgan report` on short runs: a single run, a sweep, several runs, and invalid arguments."""

import csv
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image
from scipy import stats

from mixgan_cli.reporting.plots.mixture import CAPTIONS
from mixgan_cli.runtime.outputs import LIST
from tests.browser import opened
from tests.conftest import TINY
from tests.data.make import picture

DRAWN = ("training.figures=true", "training.nimg=48")


def text_of(outcome):
    return Path(outcome.json["page"]).read_text(encoding="utf-8")


@pytest.fixture
def hmog(mixgan, finished):
    return finished(*DRAWN, "model.k=4", "evaluation.metrics=[ms_ssim,knn,mixture]")


def test_page_shows_the_plots_that_the_run_drew(mixgan, hmog):
    drawn = {path.stem for path in (hmog / "figures").glob("*.png")}
    assert drawn == {"nearest", "tree", "top", "covariance", "within", "across"}
    assert drawn == {path.stem for path in (hmog / "figures").glob("*.pdf")}
    outcome = mixgan("report", str(hmog))
    assert outcome.code == 0, outcome.err
    assert outcome.json["page"] == str(hmog / "report" / "index.html") and outcome.json["runs"] == 1
    with opened(hmog / "report" / "index.html") as seen:
        titles = seen.page.evaluate("[...document.querySelectorAll('figcaption b')].map(b => b.innerText)")
        assert titles == [
            "Samples.",
            "Real images.",
            "Learning curves.",
            *(f"{CAPTIONS[name][0]}." for name in CAPTIONS if name in drawn),
        ]
        assert seen.page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
        assert not seen.complaints
    metrics = json.loads((hmog / "results.json").read_text())["metrics"]
    assert f">{metrics['ms_ssim']:.4g}<" in text_of(outcome)


def test_page_shows_the_command_and_what_it_changes(mixgan, hmog):
    (hmog / "environment.json").write_text(json.dumps({"command": ["mixgan train", "data.root=a b", "model.k=4"]}))
    assert mixgan("report", str(hmog)).code == 0
    with opened(hmog / "report" / "index.html") as seen:
        facts = seen.page.inner_text("dl").splitlines()
        assert facts[facts.index("command") + 1] == "mixgan train 'data.root=a b' model.k=4"
        seen.page.click("summary:text('Keys that differ from the defaults of data=digits model=hmog')")
        rows = [row.split("\t") for row in seen.page.locator("tbody").last.inner_text().splitlines()]
        changed = {key: (here, default) for key, here, default in rows}
        assert changed["model.k"] == ("4", "8") and changed["training.nimg"][0] == "48"
        assert "seed" not in changed and all(here != default for here, default in changed.values())


def test_images_without_a_default_folder_are_reported(mixgan, tmp_path):
    pictures = tmp_path / "pictures"
    for number in range(60):
        picture(pictures / f"{number}.png", 8, 8, number)
    outcome = mixgan("train", *TINY, "data=folder", f"data.root={pictures}", "data.size=8", "evaluation=none")
    assert outcome.code == 0, outcome.err
    outcome = mixgan("report", outcome.json["run_dir"])
    assert outcome.code == 0, outcome.err
    assert re.search(rf"<td>data.root</td>\s*<td[^>]*>{pictures}</td>\s*<td>–</td>", text_of(outcome))


def test_own_data_sets_have_no_defaults(mixgan, hmog):
    config = (hmog / "config.yaml").read_text()
    own = config.replace("name: digits", "name: ../../digits").replace("mixgan_cli.data.Digits", "mine.Digits")
    (hmog / "config.yaml").write_text(own)
    outcome = mixgan("report", str(hmog))
    assert outcome.code == 0 and "Keys that differ" not in text_of(outcome)


def test_renamed_data_sets_have_the_defaults_of_their_choice(mixgan, hmog):
    config = (hmog / "config.yaml").read_text()
    (hmog / "config.yaml").write_text(config.replace("name: digits", "name: mine"))
    outcome = mixgan("report", str(hmog))
    assert outcome.code == 0 and "Keys that differ from the defaults of data=digits model=hmog" in text_of(outcome)


def test_hard_experts_have_averages_but_no_top_samples(mixgan):
    often = ("training.sample_nimg=16", "model=mggan", "model.k=2", "evaluation=none")
    run = Path(mixgan("train", *TINY, *DRAWN, *often).json["run_dir"])
    assert {path.stem for path in (run / "figures").glob("*.png")} == {
        *("snapshots", "nearest", "experts", "within", "across")
    }


def test_points_have_snapshots_and_levels(mixgan):
    small = ("training.nimg=768", "training.sample_nimg=48", "evaluation.n_fake=64", "evaluation.n_real=64")
    outcome = mixgan("train", "debug=short", "hardware=cpu", "data=ring", "model.k=4", *small)
    run = Path(outcome.json["run_dir"])
    assert {path.stem for path in (run / "figures").glob("*.png")} == {"snapshots", "levels", "covariance"}
    assert mixgan("report", str(run)).code == 0


def test_report_draws_plots_that_the_run_did_not(mixgan):
    """The report draws into its own folder, and again only with redraw=true; plots of the run are not changed."""
    outcome = mixgan("train", *TINY, "training.figures=false", "model.k=2", "evaluation=none")
    run = Path(outcome.json["run_dir"])
    assert mixgan("report", str(run)).code == 0
    tree = run / "report" / "figures" / f"1-{run.name}" / "tree.png"
    assert Image.open(tree).width > 100 and not (run / "figures").exists()
    (run / "figures").mkdir()
    shutil.copy(tree, run / "figures" / "tree.png")
    before = tree.read_bytes()
    shutil.rmtree(run / "report")
    assert mixgan("report", str(run)).code == 0 and not tree.exists()
    assert mixgan("report", str(run), "redraw=true").code == 0 and tree.read_bytes() == before


@pytest.fixture
def sweep(mixgan):
    outcome = mixgan("train", "-m", *TINY, "training.figures=false", "model=mggan", "model.beta=0,1", "model.k=2,4",
                     "seed=0,1", "evaluation.metrics=[ms_ssim,mixture]", "sweep.name=betak")  # fmt: skip
    assert outcome.code == 0, outcome.err
    return Path(outcome.json["sweep_dir"])


def test_a_sweep_has_tables_heat_maps_and_best_runs(mixgan, sweep):
    outcome = mixgan("report", str(sweep), "details=1")
    assert outcome.code == 0, outcome.err
    assert outcome.json["runs"] == 8
    tables, figures = sweep / "report" / "tables", sweep / "report" / "figures"
    with Image.open(figures / "samples.png") as sheet:
        assert sheet.width > 2 * 200  # four panels
    rows = list(csv.DictReader((tables / "configurations.csv").open()))
    assert {(row["model.beta"], row["model.k"], row["ms_ssim_n"]) for row in rows} == {
        (beta, k, "2") for beta in "01" for k in "24"
    }
    assert (tables / "configurations.md").read_text().count("\n") == 6
    assert r"\begin{tabular}" in (tables / "configurations.tex").read_text()
    assert {"ms_ssim.png", "ms_ssim.pdf", "jsd_experts.png"} <= {path.name for path in figures.iterdir()}
    text = text_of(outcome)
    assert text.count("<article>") == 1 and "All runs" in text
    metrics = [json.loads((run / "results.json").read_text())["metrics"] for run in Path("outputs").glob("digits*")]
    best = min(metrics, key=lambda of: abs(of["ms_ssim"] - of["ms_ssim_real"]))  # as diverse as real images
    title = r"Best runs by ms_ssim \(best: as of real samples\)</h3>"
    shown = re.search(rf"{title}.*?<tbody>\s*<tr><td><a[^>]*>[^<]*</a></td>\s*<td>([^<]*)</td>", text, re.DOTALL)
    assert float(shown[1]) == pytest.approx(best["ms_ssim"], abs=1e-3)
    assert "Mean similarity of pairs" in text and "Confidence interval: " in text  # the glossary
    (figures / "ranking_ms_ssim.png").resolve(strict=True)
    check_differences(json.loads((tables / "differences.json").read_text()), sweep)
    outcome = mixgan("report", str(sweep), "details=0", "baseline={model.beta:1.0,model.k:4}", "metrics=[jsd_experts]")
    assert outcome.code == 0, outcome.err
    assert "Differences from model.beta=1, model.k=4, paired by seed" in text_of(outcome)
    effects = json.loads((tables / "effects.json").read_text())
    assert {(row["metric"], row["key"]) for row in effects} == {
        ("jsd_experts", key) for key in ("model.beta", "model.k")
    }


def check_differences(rows, sweep):
    """Compare the differences of a report with those of each run's results."""
    runs = csv.DictReader((sweep / "report" / "tables" / "runs.csv").open())
    values = {(row["model.beta"], row["model.k"], row["seed"]): float(row["ms_ssim"]) for row in runs}
    assert len(rows) == 3 and {row["n"] for row in rows} == {2}
    configurations = {key[:2] for key in values}
    (reference,) = configurations - {(row["model.beta"], row["model.k"]) for row in rows}
    for row in rows:
        pairs = [
            [values[beta, k, seed] for seed in "01"] for beta, k in ((row["model.beta"], row["model.k"]), reference)
        ]
        expected = stats.ttest_rel(*pairs)
        assert row["difference"] == pytest.approx(np.diff(pairs, axis=0).mean() * -1)
        assert row["p"] == pytest.approx(expected.pvalue) and row["p_holm"] >= row["p"]


@pytest.mark.integ
def test_separate_runs_are_described_by_what_differs(mixgan, hmog):
    differs = ("objective.optimizer.generator.lr=0.01", "evaluation.metrics=[knn]")
    other = Path(mixgan("train", *TINY, "model.k=4", "training.nimg=48", *differs).json["run_dir"])
    outcome = mixgan("report", str(hmog), str(other))
    assert outcome.code == 0, outcome.err
    assert outcome.json["page"] == str(hmog.resolve().parent / "report" / "index.html")
    header = (Path(outcome.json["tables"]) / "configurations.md").read_text().splitlines()[0]
    assert "evaluation.metrics" in header or "objective.optimizer.generator.lr" in header
    assert len((Path(outcome.json["tables"]) / "configurations.md").read_text().splitlines()) == 4
    above = mixgan("report", "outputs", "to=page")
    assert above.json["runs"] == 2 and Path("page/index.html").is_file()


def test_unfinished_and_failed_runs_show_their_status(mixgan, hmog):
    (hmog / "DONE").unlink()
    assert ">not finished<" in text_of(mixgan("report", str(hmog)))
    (hmog / "FAILED").write_text("MemoryError: <b>all</b>")
    text = text_of(mixgan("report", str(hmog)))
    assert ">failed<" in text and "MemoryError: &lt;b&gt;all&lt;/b&gt;" in text
    shutil.rmtree(hmog / "samples")
    (hmog / "results.json").unlink()
    (hmog / "metrics.jsonl").unlink()
    assert mixgan("report", str(hmog)).code == 0
    assert "No run here has finished" in mixgan("report", str(hmog), "metrics=[fid]").err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["nowhere"], "nowhere: there is no such folder"), (["run/samples"], "The run is "), ([], "paths=…"),
     ([".", "details=-1"], "details=-1"), (["run", "metrics=[fdi]"], "metrics=fdi: no run has this metric"),
     (["run", "baseline={model:gan}"], "baseline: no configuration has model=gan"),
     (["run", "to=/proc/x"], "to=/proc/x: cannot be written")],
)  # fmt: skip
def test_invalid_arguments_give_one_message(mixgan, hmog, arguments, message):
    hmog.rename("run")
    outcome = mixgan("report", *arguments)
    assert outcome.code == 2 and message in outcome.err and "Traceback" not in outcome.err


@pytest.mark.integ
def test_page_is_written_again_and_files_of_others_are_kept(mixgan, hmog):
    """The first page is as one of an older version, without a list of files."""
    command = ("report", str(hmog), "to=page", "hardware=cpu")
    Path("page/figures").mkdir(parents=True)
    Path("page/figures/mine.png").write_bytes(b"mine")
    assert mixgan(*command).code == 0
    Path("page", LIST).unlink()
    Path("page/index.html").chmod(0o640)
    for _ in range(2):
        curves = next(Path("page/figures").rglob("curves.png"))
        curves.write_bytes(b"of a shorter run") if not Path("page", LIST).exists() else None
        assert mixgan(*command).code == 0
    assert curves.read_bytes().startswith(b"\x89PNG") and Path("page/figures/mine.png").read_bytes() == b"mine"
    assert Path("page/index.html").stat().st_mode & 0o777 == 0o640
    before = {path: path.read_bytes() for path in Path("page").rglob("*") if path.is_file()}
    Path("page/index.html").write_text("mine")
    outcome = mixgan(*command)
    assert outcome.code == 2 and "to=page: index.html would be replaced" in outcome.err
    after = {path: path.read_bytes() for path in Path("page").rglob("*") if path.is_file()}
    assert after == {**before, Path("page/index.html"): b"mine"}  # nothing was written
    assert mixgan(*command, "force=true").code == 0 and Path("page/index.html").read_text() != "mine"
    Path("site").mkdir()
    Path("site/index.html").write_text("mine")
    assert mixgan(*command[:2], "to=site").code == 2 and Path("site/index.html").read_text() == "mine"


@pytest.mark.parametrize(("to", "why"), [("/", "not the name"), (".", "not the name"), ("fifo", "Not a directory")])
def test_page_needs_a_folder_of_its_own(mixgan, hmog, to, why):
    os.mkfifo("fifo")
    outcome = mixgan("report", str(hmog), f"to={to}")
    assert outcome.code == 2 and f"to={to}: " in outcome.err and why in outcome.err and Path("fifo").is_fifo()


def test_wandb_gets_the_plots_during_training(mixgan, monkeypatch):
    from mixgan_cli.tracking.wandb import WandbLogger

    seen = []
    monkeypatch.setattr(WandbLogger, "image", lambda self, name, path, nimg: seen.append((name, nimg)))
    monkeypatch.setenv("WANDB_MODE", "disabled")
    often = ("training.sample_nimg=24", "model.k=2", "evaluation=none")
    outcome = mixgan("train", *TINY, *DRAWN, *often, "logger=wandb", "logger.wandb.mode=auto")
    assert outcome.code == 0, outcome.err
    shown = {name for name, nimg in seen if nimg == 0}
    assert shown == {"samples", *(f"figures/{name}" for name in ("tree", "top", "covariance", "within", "across"))}
    assert len({nimg for _, nimg in seen}) >= 2


def test_mixed_runs_have_a_section_per_data_set(mixgan):
    """Each group shows its best runs, its plots have a folder of their own, and rows lead to the runs."""
    few = (*TINY, "training.figures=false", "evaluation.metrics=[knn,mixture]")
    for data in ("data=digits", "data=digits data.split_seed=null"):
        outcome = mixgan("train", "-m", *few, *data.split(), "model=mog", "model.k=2,4", "seed=0,1")
        assert outcome.code == 0, outcome.err
    outcome = mixgan("report", "outputs", "to=page", "details=3", "metrics=[gate_entropy]", "baseline={model.k:2}")
    assert outcome.code == 0, outcome.err
    with opened(Path("page/index.html")) as seen:
        titles = seen.page.eval_on_selector_all("main h2", "all => all.map(h2 => h2.innerText)")
        assert [title.startswith("digits, protocol ") for title in titles[:2]] == [True, True]
        articles = "all => all.map(section => section.querySelectorAll('article').length)"
        assert seen.page.eval_on_selector_all("main > section", articles) == [2, 1]
        hrefs = seen.page.eval_on_selector_all("td a", "all => all.map(link => link.getAttribute('href'))")
        assert all(Path("page", href).is_dir() for href in hrefs if not href.startswith("#"))
        assert {"#run-1", "#run-2", "#run-3"} < set(hrefs)
        assert not seen.complaints
    assert Path("page/tables/runs.csv").read_text().count("\n") == 9
    differences = [Path(f"page/tables/group-{number}/differences.md").read_text() for number in (1, 2)]
    assert all(text.count("gate_entropy") == 1 for text in differences)


@pytest.mark.parametrize("value", [True, [1], "x", {"metrics": 3}])
def test_run_with_an_odd_protocol_has_a_page(mixgan, hmog, value):
    """Anyone may have written a run: its protocol is shown, if it can be, and never ends in a traceback."""
    config = OmegaConf.load(hmog / "config.yaml")
    config.evaluation.interim = value
    OmegaConf.save(config, hmog / "config.yaml")
    assert mixgan("report", str(hmog), "details=0").code == 0
