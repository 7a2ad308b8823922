"""What the phases do for experts: how many fakes, on which latents, weighted how; who moves whom; what is refused."""

import copy
import logging
import math
from functools import cache

import pytest
import torch
from torch import nn
from torch.nn.functional import softplus

from mixgan_cli.errors import ConfigError
from mixgan_cli.models.networks import build_networks
from mixgan_cli.training.checks import check_networks
from mixgan_cli.training.setup import build_phases
from tests.conftest import composed, take_step, take_steps
from tests.training.test_phases import COMPUTE, Fixed

once_composed = cache(composed)  # composing is what takes time

SMALL = ("model.backbone.channels=4", "model.latent.size=5")
ADAM = "{_target_: torch.optim.Adam, lr: 1.0e-3, betas: [0.5, 0.9], amsgrad: false, weight_decay: 0.0}"


def game(model, *overrides, batch=8):
    run = once_composed(f"model={model}", *SMALL, f"training.batch={batch}", *overrides)
    players = build_networks(run.model, (1, 16, 16))
    real = torch.rand(batch, 1, 16, 16) * 2 - 1
    phases = build_phases(run.objective, players, Fixed(real), batch, COMPUTE, run.training.fakes)
    return players, real, phases


def phase_of(kind, phases):
    (found,) = [phase for phase in phases if type(phase).__name__ == f"{kind}Phase"]
    return found


def moved_by(phase, players, iteration=0):
    """The names of the parameters that a step changes."""
    before = copy.deepcopy(players)
    take_step(phase, 0, iteration)
    return {
        f"{player}.{name}"
        for player in ("generator", "discriminator")
        for (name, now), then in zip(
            getattr(players, player).named_parameters(), getattr(before, player).parameters(), strict=True
        )
        if not torch.equal(now, then)
    }


def names(network, prefix):
    return {f"{prefix}.{name}" for name, _ in network.named_parameters()}


def latents_of(generator):
    """The latents of every step from now on."""
    seen = []
    generator.stem.register_forward_hook(lambda stem, inputs, output: seen.append(inputs[0].clone()))
    return seen


def shown_to(discriminator):
    """How many samples the discriminator judges at a time from now on."""
    seen = []
    discriminator.body.register_forward_hook(lambda body, inputs, output: seen.append(len(inputs[0])))
    return seen


# How many fakes


@pytest.mark.parametrize(
    ("model", "overrides", "expected"),
    [
        ("mggan", (), 120),  # 12 of each of 10
        ("mggan", ("objective.fakes=per_expert",), 1280),
        ("mggan", ("training.fakes=64",), 60),
        ("mggan", ("training.fakes=12", "objective.fakes=per_expert"), 120),
        ("madgan", ("model.k=10", "objective.fake_passes=together"), 1280),
        ("madgan", ("model.k=10", "objective.fakes=shared", "objective.fake_passes=together"), 120),
        ("mog", ("model.k=10", "objective=non_saturating"), 128),  # a gate that mixes shares nothing out
        ("mog", ("model.k=10", "objective=madgan", "model/head=multiclass"), 128),
        ("megan", ("model.k=10", "objective=non_saturating"), 128),
    ],
)
def test_fakes_of_a_step(model, overrides, expected):
    (generator, discriminator), _, phases = game(model, *overrides, batch=128)
    seen = shown_to(discriminator)
    weights = []
    generator.register_forward_hook(lambda generator, inputs, fakes: weights.append(fakes.weights_BK))
    for phase in phases:
        take_step(phase)
    assert seen == [128, expected, expected]
    if model in ("mggan", "madgan"):
        assert (weights[0].sum(dim=0) == expected // 10).all()


@pytest.mark.parametrize(("model", "expected"), [("mggan", [8, 6, 18]), ("mog", [8, 8, 24])])
def test_generators_step_can_have_more_fakes(model, expected):
    """A multiple of those in the discriminator's step, in equal shares of the experts."""
    overrides = (
        "model.k=3",
        "objective=hinge",
        "objective.d_steps=1",
        "training.fakes=8",
        "objective.generator_fakes=3",
    )
    (generator, discriminator), _, phases = game(model, *overrides)
    seen, weights = shown_to(discriminator), []
    generator.register_forward_hook(lambda generator, inputs, fakes: weights.append(fakes.weights_BK))
    for phase in phases:
        take_step(phase)
    assert seen == expected
    assert model == "mog" or weights[1].sum(dim=0).tolist() == [6, 6, 6]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ((), 120),  # enough for each of the ten experts' batch norm
        (("model.k=2",), 24),
        (("model/experts=dense",), 10),  # without batch norm, as many as reals
        (("objective.fakes=per_expert",), 160),
    ],
)
def test_default_fakes_per_batch_normed_expert(overrides, expected):
    (_, discriminator), _, phases = game("mggan", *overrides, batch=16)
    seen = shown_to(discriminator)
    take_step(phases.discriminator)
    assert seen == [16, expected]


@pytest.mark.parametrize(("fakes", "share"), [(19, 1), (9, 0)])
def test_too_few_fakes_for_batch_norm(fakes, share):
    with pytest.raises(ConfigError, match=rf"model\.k=10: of {fakes} fakes a step an expert makes {share} and needs 2"):
        game("mggan", f"training.fakes={fakes}")
    (_, discriminator), _, phases = game("mggan", "objective.fakes=per_expert", f"training.fakes={fakes}")
    seen = shown_to(discriminator)
    take_step(phases.discriminator)
    assert seen == [8, 10 * fakes]


# Latents


@pytest.mark.parametrize("reuse", [True, False])
def test_generator_step_reuses_the_last_latents(reuse):
    (generator, _), _, phases = game("mggan", f"objective.reuse_latents={reuse}", "objective.d_steps=2", batch=30)
    seen = latents_of(generator)
    for _ in range(2):
        take_steps(phases)
    assert not torch.equal(seen[0], seen[1]) and not torch.equal(seen[3], seen[2])
    assert torch.equal(seen[2], seen[1]) == reuse


def test_reused_latents_give_the_same_fakes():
    """No generator's weight has moved in between, and batch norm takes the batch's own statistics."""
    (generator, _), _, phases = game("mggan", batch=30)
    seen = []
    generator.register_forward_hook(lambda generator, inputs, fakes: seen.append(fakes.samples.detach()))
    take_steps(phases)
    torch.testing.assert_close(seen[0], seen[1], rtol=0, atol=0)


@pytest.mark.parametrize("model", ["megan", "megan_hidden"])
def test_load_balance_draws_new_latents(model):
    (generator, _), _, phases = game(model, "model.k=3", "objective.reuse_latents=true")
    seen = latents_of(generator)
    take_steps(phases)
    *_, of_discriminator, of_generator, of_gate = seen
    assert torch.equal(of_generator, of_discriminator) and not torch.equal(of_gate, of_generator)


# Losses


@pytest.mark.parametrize(("weight", "times"), [("k", 3), ("one", 1)])
@pytest.mark.parametrize("classifier", [1.0, 0.5])
def test_weights_in_the_discriminators_loss(weight, times, classifier):
    (_, discriminator), real, (phase, _) = game(
        "mggan",
        "model.k=3",
        "training.fakes=9",
        f"objective.fake_weight={weight}",
        f"objective.classifier.weight={classifier}",
    )
    before, seen = copy.deepcopy(discriminator), []
    discriminator.body.register_forward_hook(lambda body, inputs, output: seen.append(inputs[0].clone()))
    told = take_step(phase)
    on_real, on_fake = before(real), before(seen[1])
    of_fakes = (
        softplus(on_fake.scores_N).mean()
        - classifier
        * torch.cat([on_fake.expert_logits_NL[3 * k : 3 * k + 3].log_softmax(dim=1)[:, k] for k in range(3)]).mean()
    )
    expected = softplus(-on_real.scores_N).mean() + times * of_fakes
    assert told["loss/discriminator"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_beta_is_the_generators_alone():
    """In the discriminator's step the classifier has its own weight, whatever beta."""
    told = []
    for beta in (0.0, 5.0):
        torch.manual_seed(0)
        _, _, (phase, _) = game("mggan", "model.k=3", f"model.beta={beta}", batch=9)
        told.append(take_step(phase)["loss/discriminator"])
    assert torch.equal(*told)


@pytest.mark.parametrize("step", ["Discriminator", "Generator"])
def test_soft_weights_are_the_classifiers_targets(step):
    """A mixture's sample is each expert's by its weight: -Σ_k a_k log C_k(x)."""
    (generator, discriminator), _, phases = game(
        "hmog", "model.k=4", "model/head=classifier", "objective=mggan", "model.beta=0.5"
    )
    before, seen = copy.deepcopy(discriminator), []
    generator.register_forward_hook(lambda generator, inputs, fakes: seen.append(fakes))
    told = take_step(phase_of(step, phases))
    samples, weights_BK = seen[0]
    assert ((weights_BK > 0.01) & (weights_BK < 0.99)).any(dim=1).all()
    expected = -(weights_BK * before(samples).expert_logits_NL.log_softmax(dim=1)).sum(dim=1).mean()
    name = {"Discriminator": "loss/classifier", "Generator": "loss/diversity"}[step]
    assert told[name].item() == pytest.approx(expected.item(), rel=1e-5)
    if step == "Discriminator":  # what is logged counts with the usage as it is
        usage_K = weights_BK.mean(dim=0)
        entropy = -(usage_K * usage_K.log()).sum()
        assert told["jsd_experts"].item() == pytest.approx((entropy - expected).item(), abs=1e-5)


@pytest.mark.parametrize(("form", "logged"), [("general", True), ("one_vs_all", False), ("pairwise", False)])
def test_jsd_is_logged_if_the_classifier_estimates_it(form, logged):
    _, _, phases = game("mggan", "model.k=3", f"model.head.form={form}")
    told = take_step(phases.discriminator)
    assert ("jsd_experts" in told) == logged and "loss/classifier" in told


@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_diversity_reaches_a_soft_gate_through_its_weights(beta):
    """Experts all alike: the image does not depend on the gate, so what moves it comes by the targets."""
    (generator, discriminator), _, phases = game(
        "mog", "model.k=4", "model/head=classifier", "objective=mggan", f"model.beta={beta}"
    )
    with torch.no_grad():
        generator.experts.weight_KZH.copy_(generator.experts.weight_KZH[:1].expand(4, -1, -1).clone())
    nn.init.normal_(discriminator.head.experts.weight)
    take_step(phase_of("Generator", phases))
    assert (generator.gate.logits.weight.grad.abs().max() > 1e-3).item() == (beta > 0)


@pytest.mark.parametrize(("fakes", "pairs"), [(30, 8), (6, 6), (9, 8)])
def test_gradient_penalty_between_unequal_batches(fakes, pairs):
    (_, discriminator), _, (phase, _) = game("mggan", "model.k=3", "objective=wgan_gp", f"training.fakes={fakes}")
    seen = shown_to(discriminator)
    told = take_step(phase)
    assert seen == [8, fakes, pairs]
    assert told["loss/penalty"].isfinite() and told["loss/penalty"] > 0


def test_gradient_penalty_takes_fakes_of_all_experts(monkeypatch):
    """They come in turn: the first eight of thirty would be the first expert's."""
    _, real, (phase, _) = game("mggan", "model.k=3", "objective=wgan_gp", "training.fakes=30")
    generator, seen = phase.context.networks.generator, []
    generator.register_forward_hook(lambda generator, inputs, fakes: seen.append(fakes.samples))
    monkeypatch.setattr(torch, "lerp", lambda some, fakes, alpha: seen.append((some, fakes)) or some.clone())
    take_step(phase)
    fakes, (some, taken) = seen
    places = [(fakes == sample).flatten(1).all(dim=1).nonzero()[0].item() for sample in taken]
    assert torch.equal(some, real) and len(set(places)) == 8
    assert {place // 10 for place in places} == {0, 1, 2}


# Who moves whom


@pytest.mark.parametrize("projection", ["per_expert", "shared"])
def test_megans_balance_trains_only_the_mlp(projection):
    players, _, phases = game("megan", "model.k=3", f"model.gate.projection={projection}")
    balance = phase_of("Gate", phases)
    assert moved_by(balance, players) == names(players.generator.gate.mlp, "generator.gate.mlp")
    assert balance.optimizers == {"gate": phase_of("Generator", phases).optimizers["gate"]}


def test_hmog_authors_balance_trains_the_gate_with_its_own_adam():
    players, _, phases = game("megan_hidden", "model.k=3")
    balance = phase_of("Gate", phases)
    assert moved_by(balance, players) == names(players.generator.gate, "generator.gate")
    assert list(balance.optimizers) == ["balance"]
    optimizers = phases.optimizers
    assert list(optimizers) == ["discriminator", "generator", "balance"]
    assert not optimizers["generator"].state
    in_both = set(optimizers["generator"].param_groups[0]["params"])
    assert in_both == set(players.generator.parameters()) > set(optimizers["balance"].param_groups[0]["params"])
    (group,) = optimizers["balance"].param_groups
    assert (group["lr"], group["betas"], group["amsgrad"]) == (1e-4, (0.5, 0.999), True)


def test_load_balance_does_not_use_the_gates_optimiser():
    players, _, phases = game("megan", "model.k=3", f"objective.optimizer.balance={ADAM}")
    balance = phase_of("Gate", phases)
    assert moved_by(balance, players) <= names(players.generator.gate.mlp, "generator.gate.mlp")
    assert not phase_of("Generator", phases).optimizers["gate"].state and balance.optimizers["balance"].state


def test_soft_gate_can_have_a_load_balance():
    players, _, phases = game("mog", "model.k=4", "objective=megan_hidden")
    assert moved_by(phase_of("Gate", phases), players) == names(players.generator.gate, "generator.gate")


def test_balance_makes_a_one_sided_gate_more_even():
    """From nearly everything to expert 0, by the balance alone, to shares nearer 1/K."""
    (generator, _), _, phases = game(
        "megan_hidden", "model.k=3", f"objective.optimizer.balance={ADAM.replace('1.0e-3', '1.0e-1')}", batch=64
    )
    with torch.no_grad():
        generator.gate.mlp[-1].bias[0] = 5
    balance = phase_of("Gate", phases)
    losses = [take_step(balance)["loss/balance"].item() for _ in range(60)]
    assert losses[0] > 0.1 and sum(losses[-10:]) / 10 < 0.02


def test_balance_follows_its_schedule():
    """The gradient has the weight of the iteration; the logged value has none."""
    gradients, logged = [], []
    for iteration in (0, 7_810):
        torch.manual_seed(0)
        (generator, _), _, phases = game("megan", "model.k=3")
        logged.append(take_step(phases.gate, 0, iteration)["loss/balance"].item())
        gradients.append(generator.gate.mlp[-1].weight.grad)
    torch.testing.assert_close(gradients[1], gradients[0] * math.exp(-0.781), rtol=1e-5, atol=0)
    assert logged[1] == logged[0] > 0 and gradients[0].any()


def test_learned_prior_moves_by_the_posteriors_of_the_reals():
    """The gradient by hand from the classifier's softmax on the real batch; nothing else moves."""
    players, real, phases = game("dmgan", "model.k=3", "objective.terms.prior_entropy=null")
    generator, discriminator = players
    with torch.no_grad():
        generator.gate.logits_K.copy_(torch.tensor([1.0, 0.0, -1.0]))
        posterior_K = discriminator(real).expert_logits_NL.softmax(dim=1).mean(dim=0)
        prior_K = generator.gate.expert_prior()
    assert moved_by(phases.gate, players) == {"generator.gate.logits_K"}
    torch.testing.assert_close(generator.gate.logits_K.grad, (prior_K - posterior_K) / 3, atol=1e-7, rtol=1e-4)
    (group,) = phases.optimizers["balance"].param_groups
    assert (group["lr"], group["betas"]) == (1e-3, (0.5, 0.5))


def test_prior_takes_the_reals_of_the_last_critic_step():
    _, _, phases = game("dmgan", "model.k=3")
    asked = []
    phases.gate.context.batches.get_batch = lambda nimg, n: asked.append((nimg, n)) or torch.zeros(n, 1, 16, 16)
    phases.gate.inputs(40, 1)
    assert asked == [(32, 8)]


def test_classifier_of_dmgan_leaves_the_critics_features():
    """Its loss has a gradient for its own layers only; the generator's step gets the features' gradient."""
    players, _, phases = game("dmgan", "model.k=3")
    phases.discriminator.context.adversarial.fake = lambda scores_N: 0 * scores_N.sum()
    phases.discriminator.context.adversarial.real = lambda scores_N: 0 * scores_N.sum()
    phases.discriminator.penalty = lambda score, real, fake: None
    moved = moved_by(phases.discriminator, players)
    assert moved == names(players.discriminator.head.experts, "discriminator.head.experts")
    phases.generator.context.adversarial.generator = lambda scores_N: 0 * scores_N.sum()
    assert any(name.startswith("generator.experts") for name in moved_by(phases.generator, players))


def test_megans_gate_has_an_optimiser_with_weight_decay():
    """Adam(0, 0.9) and 2e-4 for all; 0.1 of weight decay for the MLP alone; 5 critic steps; a weight moves with one."""
    players, _, phases = game("megan", "model.k=3")
    generator = players.generator
    optimizers = phases.optimizers
    groups = {name: optimizer.param_groups[0] for name, optimizer in optimizers.items()}
    assert {name: group["weight_decay"] for name, group in groups.items()} == {
        "discriminator": 0,
        "generator": 0,
        "gate": 0.1,
    }
    assert all(group["betas"] == (0.0, 0.9) and group["lr"] == 2e-4 for group in groups.values())
    assert set(groups["gate"]["params"]) == set(generator.gate.mlp.parameters())
    assert set(groups["generator"]["params"]) == set(generator.parameters()) - set(generator.gate.mlp.parameters())
    assert [phase.steps for phase in phases] == [5, 1, 1]


def test_generator_step_trains_gate_and_experts():
    players, _, phases = game("megan", "model.k=3")
    moved = moved_by(phase_of("Generator", phases), players)
    assert moved >= {
        f"generator.{name}"
        for name, parameter in players.generator.named_parameters()
        if parameter.dim() > 1 and ".rest." not in name  # of experts not chosen, those last layers stay
    }
    assert not moved & names(players.discriminator, "discriminator")


@pytest.mark.parametrize("model", ["madgan", "madgan_sim", "mggan", "megan", "megan_hidden"])
def test_critic_step_does_not_change_the_generator(model):
    players, _, phases = game(model, "model.k=3")
    moved = moved_by(phase_of("Discriminator", phases), players)
    assert moved and moved <= names(players.discriminator, "discriminator")


# What is refused, and why


@pytest.mark.parametrize("form", ["pairwise", "one_vs_all"])
def test_comparing_form_with_one_expert_is_refused(form):
    run = once_composed("model=mggan", "model.k=1", f"model.head.form={form}")
    with pytest.raises(ConfigError, match=rf"model\.head\.form={form}: compares experts, and model\.k=1"):
        build_networks(run.model, (1, 32, 32))


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (("model=madgan", "objective=wgan_gp"), "Wasserstein takes the score for something else"),
        (("model=madgan", "objective=lsgan"), "LeastSquares takes the score for something else"),
        (("model=madgan", "objective=hinge"), "Hinge takes the score for something else"),
        (("model=madgan", "objective.classifier.stop_gradient=true"), "the same logits for both"),
        (("model=mggan", "objective=megan"), "UniformGate learns nothing that could be balanced"),
        (("model=gan", "objective=megan_hidden"), "NoGate learns nothing that could be balanced"),
        (("model=mggan", f"objective.optimizer.gate={ADAM}"), "optimizer.gate: UniformGate learns nothing"),
        (("model=megan", "objective.optimizer.gate=null"), "Give optimizer.gate or optimizer.balance"),
        (("model=madgan_sim", "model.gate.same_latents=false"), "compares experts at the same latents"),
        (("model=hmog", "objective=madgan_sim"), "compares experts at the same latents"),
        (("model=madgan_sim", "model.k=1"), "one expert has no rival"),
        (("model=hmog", "model.beta=0.1"), "ScoreHead does not classify experts"),
        (("model=mggan", "objective=wgan_gp", "objective.fake_weight=k"), "Wasserstein balances real against fake"),
        (("model=mggan", "objective.generator_fakes=2"), "generator_fakes=2: with objective.reuse_latents=true"),
        (("model=megan", "model.gate.schedule.every=0"), "every=0"),
        (("model=megan", "model.gate.temperature=0"), "temperature=0"),
        (("model=megan", "objective.terms.balance.schedule.every=0"), "every=0"),
    ],
)
def test_incompatible_components_are_refused(overrides, reason):
    with pytest.raises(ConfigError) as refusal:
        once_composed(*overrides)
    assert reason in str(refusal.value)


def test_a_gate_with_batch_norm_needs_two_samples():
    run = composed("model=hmog", "model.k=2", "model/gate=gumbel", "model.backbone.channels=2")
    networks = build_networks(run.model, (1, 8, 8))
    with pytest.raises(ConfigError, match="needs 2"):
        build_phases(run.objective, networks, None, 1, COMPUTE)


@pytest.mark.parametrize(
    ("overrides", "batch", "reason"),
    [
        (
            ("model=hmog", "model.k=1", f"objective.optimizer.gate={ADAM}"),
            8,
            "objective.optimizer.gate: with model.k=1",
        ),
        (("model=hmog", "model.k=1", "objective=megan_hidden"), 8, "objective.terms.balance: with model.k=1"),
        (("model=mggan", "model.k=1"), 1, "training.batch=1: the discriminator has batch norm"),
    ],
)
def test_incompatible_networks_are_refused(overrides, batch, reason):
    run = once_composed(*overrides, *SMALL)
    with pytest.raises(ConfigError, match=reason):
        check_networks(build_networks(run.model, (1, 8, 8)), run.objective, batch, None)


@pytest.mark.parametrize(("norm", "warned"), [("batch", True), ("layer", False), ("none", False)])
def test_gradient_penalty_with_batch_norm_logs_a_warning(norm, warned, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("mixgan"), "propagate", True)  # the program, called in a test, turns it off
    run = once_composed("model=mggan", "objective=wgan_gp", f"model.backbone.discriminator_norm={norm}", *SMALL)
    networks = build_networks(run.model, (1, 16, 16))
    with caplog.at_level("WARNING", logger="mixgan"):
        check_networks(networks, run.objective, 8, None)
    assert ("one sample" in caplog.text) == warned
    assert networks.discriminator(torch.randn(4, 1, 16, 16)).scores_N.shape == (4,)
