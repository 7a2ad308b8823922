import pytest
from omegaconf import OmegaConf

from mixgan_cli.config.parse import parse
from mixgan_cli.config.schema import Run
from tests.conftest import composed, composition

WRONG = {
    "model=hmgo": "model=hmgo: there is no such choice. Did you mean 'hmog'",
    "objective=hing": "Did you mean 'hinge'",
    "model/gate=tre": "Did you mean 'tree'",
    "experiment=none_such": "experiment=none_such: there is no such choice",
    "model.kk=3": "model.kk: there is no such key. Did you mean 'model.k'",
    "modle=hmog": "modle: there is no such key. Did you mean 'model'",
    "training.nimgs=3": "training.nimgs: there is no such key. Did you mean 'training.nimg'",
    "training.nimg=many": "training.nimg='many': Input should be a valid integer",
    "training.nimg=10": "training.nimg=10 is less than one batch (training.batch=32)",
    "training.nimg=null": "training.nimg=null and training.epochs=null: the length of the run is given in images",
    "training.epochs=2": "training.nimg=512 and training.epochs=2: the length of the run is given in images",
    "training.batch=0": "training.batch=0: Input should be greater than 0",
    "model.k=0": "model.k=0: Input should be greater than 0",
    "model.k=6": "model.k=6: a complete binary tree needs a power of two leaves. Take model.k=4 or 8",
    "model.beta=-1": "model.beta=-1: Input should be greater than or equal to 0",
    "+model.foo=1": "model.foo: there is no such key",
    "+model.gate.temperature=1": "model.gate.temperature: TreeGate takes no such key",
    "model.backbone.init_std=wide": "model.backbone.init_std='wide': Input should be a valid number",
    "model.beta=0.1": "model.beta=0.1: ScoreHead does not classify experts",
    "+model.gate.k=4": "TreeGate.k=4: the program sets this itself",
    "~data.size": "Digits: missing a required argument: 'size'",
    "evaluation.feature_layer='caf\udce9'": "evaluation.feature_layer='caf\\udce9': its characters are not text",
    "evaluation.extractors=[]": "evaluation.extractors=[]: Give at least 1",
    "evaluation.extractors=[inception-v3]": "Did you mean 'inception-v3-compat'",
    "objective/augment=diffaugmnt": "Did you mean 'diffaugment'",
    "objective.augment=strong": "objective.augment._target_ is missing: 'strong' names no class",
    "+model.gate.schedule=3": "model.gate.schedule._target_ is missing: 3 names no class",
    "+objective.optimizer.gate.momentum=1": "objective.optimizer.gate._target_ is missing",
    "training.flips=often": "training.flips='often': Input should be a valid boolean",
    "objective.adversarial._target_=mixgan_cli.objectives.Hinge2": "Hinge2 cannot be imported",
    "objective.penalty.share=2": "objective.penalty.share=2: Input should be less than or equal to 1",
    "model.backbone.discriminator_norm=group": "Input should be 'none', 'batch', 'batch_after' or 'layer'",
    "model.latent.distribution=cauchy": "Input should be 'normal' or 'uniform'",
    "evaluation.metrics=[fdi]": "evaluation.metrics=fdi: there is no such metric. Did you mean 'fid'",
    "evaluation.feature_layer=512": "feature_layer=512: the Inception network has 64, 192, 768, 2048",
    "model.gate._target_=mixgan_cli.models.gates.BushGate": "BushGate cannot be imported",
    "data.size=12": "data.size=12: model/backbone=dcgan takes 8, 16, 32, 64 or 128",
    "data=folder": "data.root: missing. Give data.root=",
    "seed=-1": "seed=-1",
    "evaluation.seed=4294967296": "evaluation.seed=4294967296: Input should be less than 4294967296",
    "data=0.5": "data=0.5: there is no such choice. Known: arrays, celeba",
    "model/gate=null": "model/gate=null: there is no such choice. Known: gumbel",
    "model.experts._target_=mixgan_cli.objectives.NoPenalty": "NoPenalty cannot be used here: it has no expand",
    "data._target_=builtins.dict": "builtins.dict cannot be used here: it has no load",
    "data._target_=mixgan_cli.data": "mixgan_cli.data cannot be imported (Located non-class of type 'module'",
    "model.gate._target_=[a]": "['a'] cannot be imported",
    "model.gate._target_=" + "x" * 5000: "x …",
    "objective.optimizer.generator.betas=[1,2]": "torch.optim.Adam: Invalid beta parameter at index 0",
    "objective.optimizer.generator._target_=torch.optim.LBFGS": "LBFGS takes no such key",
    "+objective.optimizer.generator.schedule.final=0.1": "optimizer.generator.schedule._target_ is missing",
    "objective.optimizer.generator.lr=0": "lr=0.0: must be greater than 0",
    "objective.optimizer.generator.lr=inf": "lr=inf: Input should be a finite number",
    "objective.penalty.weight=nan": "weight=nan: Input should be a finite number",
    "model.backbone.init_std=-1": "init_std=-1: Input should be greater than or equal to 0",
    "model.k=100000": "model.k=100000: Input should be less than or equal to 4096",
    "model.latent.size=1000000000": "Input should be less than or equal to 65536",
    "model.backbone.channels=8193": "channels=8193: Input should be less than or equal to 8192",
    "training.batch=1073741824": "training.batch=1073741824: Input should be less than or equal to 1048576",
    "data.size=2048": "data.size=2048: Input should be less than or equal to 1024",
    "~objective.terms.diversity.weight": "diversity.weight: missing. Give objective.terms.diversity.weight=…",
    "++evaluation.interim={x: 1}": "evaluation.interim.x: there is no such key",
    "-x": "unrecognized arguments: -x",
    "nonsense": "cannot read the override 'nonsense'",
}


DEBUG = ("debug=short", "evaluation.download=false")  # short, in case one is accepted by mistake


@pytest.mark.parametrize("override", WRONG)
def test_invalid_configuration_is_refused_in_one_message(mixgan, override, tmp_path):
    outcome = mixgan("train", *DEBUG, override)
    assert outcome.code == 2
    assert WRONG[override] in outcome.err
    assert "Traceback" not in outcome.err and outcome.out == ""
    assert not list(tmp_path.glob("outputs/*"))


def test_all_errors_are_reported_together(mixgan):
    outcome = mixgan("train", "training.batch=x", "model.k=0")
    assert "training.batch='x'" in outcome.err and "model.k=0" in outcome.err


@pytest.mark.parametrize("experts", ["linear", "constant", "dense"])
@pytest.mark.parametrize("gate", ["softmax", "tree"])
def test_gates_and_experts_combine(gate, experts):
    run = composed(f"model/gate={gate}", f"model/experts={experts}")
    assert run.model.k == 8


def test_objective_follows_the_model_unless_overridden():
    assert composed("model=mog").objective.adversarial["_target_"].endswith("Wasserstein")
    assert composed("model=mog").objective.optimizer.generator["amsgrad"]
    assert composed("model=mog", "objective=hinge").objective.adversarial["_target_"].endswith("Hinge")


def test_points_select_the_mlp_backbone():
    assert composed("data=ring").model.backbone["_target_"].endswith("MLP")
    assert composed("data=ring", "model=mog").evaluation.metrics == ("modes", "plane", "knn", "mixture")


def test_explicit_evaluation_of_points_is_kept():
    assert composed("data=ring", "evaluation=none").evaluation.metrics == ()


def test_points_of_another_folder_select_the_mlp_backbone(tmp_path):
    (tmp_path / "data").mkdir()
    target = "_target_: mixgan_cli.data.Spiral"
    (tmp_path / "data" / "mine.yaml").write_text(
        f"defaults: [_toy2d, _self_]\n{target}\nname: mine\ndegrees: 90\nnoise: 0\n"
    )
    words = (f"hydra.searchpath=[file://{tmp_path}]", "data=mine")
    run = parse(OmegaConf.masked_copy(composition(*words, hydra=True), list(Run.model_fields)), Run)
    assert run.model.backbone["_target_"].endswith("MLP") and run.evaluation.name == "points"
    assert (run.training.nimg, run.hardware.precision) == (2_000_000, "float32")
    evaluated = composition(*words, "evaluation=full", of="evaluate", hydra=True)
    assert evaluated.data.degrees == 90 and evaluated.evaluation.name == "full" and "model" not in evaluated
