"""Learning curves, from a log written by hand."""

import json

from mixgan_cli.reporting import curves


def write(path, *records):
    path.write_text("".join(f"{record if isinstance(record, str) else json.dumps(record)}\n" for record in records))
    return path


def test_every_figure_is_a_series_and_a_list_is_several(tmp_path):
    log = write(
        tmp_path / "metrics.jsonl",
        {
            "step": 1,
            "nimg": 10,
            "seconds": 1.0,
            "loss/generator": 2.0,
            "gate_usage": [0.25, 0.75],
            "img_per_second": 9.0,
        },
        {"step": 2, "nimg": 20, "seconds": 2.0, "loss/generator": 1.0, "fid": 3, "expert_class": [[0.5, 0.5]]},
        {"nimg": 20, "alarm": "usage", "message": "an expert starves"},
        '{"nimg": 30, "loss/generator"',
        "[]",
    )
    assert curves.read(log) == {
        "loss/generator": [(10, 2.0), (20, 1.0)],
        "gate_usage/0": [(10, 0.25)],
        "gate_usage/1": [(10, 0.75)],
        "fid": [(20, 3.0)],
    }
    assert curves.read(tmp_path / "nowhere") == {}


def test_kinds_share_a_panel_and_a_single_point_is_no_curve():
    points = [(0, 1.0), (1, 2.0)]
    names = [
        "loss/generator",
        "loss/discriminator",
        "gate_usage/0",
        "gate_usage/1",
        "nmi_by_level/0",
        "nmi_by_level/1",
        "fid",
    ]
    figure = curves.draw({**dict.fromkeys(names, points), "kid": [(0, 1.0)]})
    panels = {axes.get_title(): len(axes.lines) for axes in figure.axes}
    assert panels == {"losses": 2, "usage of the experts": 2, "nmi_by_level": 2, "fid": 1}
    assert [tuple(xy) for xy in figure.axes[-1].lines[0].get_xydata()] == points
    assert curves.draw({"fid": [(0, 1.0)]}) is None


def test_figures_of_other_protocols_are_other_series(tmp_path):
    log = write(
        tmp_path / "metrics.jsonl",
        {"nimg": 1, "jsd_experts": 0.5},
        {"nimg": 1, "protocol": "full_interim", "fid": 80, "jsd_experts": 0.1},
        {"nimg": 2, "protocol": "full_interim", "fid": 70},
        {"nimg": 2, "protocol": "full", "fid": 20, "kid": float("nan")},
    )
    assert curves.read(log) == {
        "jsd_experts": [(1, 0.5)],
        "jsd_experts (full_interim)": [(1, 0.1)],
        "fid": [(1, 80), (2, 70)],
        "fid (full)": [(2, 20)],
    }
