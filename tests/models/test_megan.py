"""MEGAN compared with its specification: gating networks, straight-through Gumbel-softmax and gradients."""

import math
from functools import cache

import pytest
import torch
from torch import nn

from mixgan_cli.models.layers import BatchNorm1d, BatchNorm2d
from mixgan_cli.models.networks import build_networks, parameter_counts
from mixgan_cli.optim.optimizers import build_schedule
from tests.conftest import composed

once_composed = cache(composed)  # composing is what takes time

K, B = 3, 24
SMALL = (f"model.k={K}", "model.backbone.channels=4", "model.latent.size=6")
VARIANTS = ["megan", "megan_hidden"]


def networks(*overrides, shape=(3, 32, 32)):
    return build_networks(once_composed(*overrides).model, shape)


def small(model, *overrides):
    """16 pixels: an expert of MEGAN has two stages before the features that the gate reads, and one after."""
    return networks(f"model={model}", *SMALL, *overrides, shape=(1, 16, 16))


def counted(*overrides, pixels):
    with torch.device("meta"):
        built = networks(*overrides, shape=(3, pixels, pixels))
    return built, parameter_counts(built)


def size(network):
    return sum(parameter.numel() for parameter in network.parameters())


def logits_of(generator):
    """Return a list that collects the outputs of the gate's MLP from now on, with their gradients."""
    found = []

    def keep(layer, inputs, output):
        if output.requires_grad:
            output.retain_grad()
        found.append(output)

    generator.gate.mlp.register_forward_hook(keep)
    return found


def moved(network):
    return [p.grad is not None and p.grad.any().item() for p in network.parameters()]


# Networks

RELEASED = ("model=megan", "model.gate.projection=shared", "model.gate.projection_norm=false")
MLP = 1408 * 704 + 704 + 2 * 704 + 704 * 128 + 128 + 2 * 128 + 128 * 10 + 10  # (K + 1) · 128 → 704 → 128 → K


@pytest.mark.parametrize(
    ("pixels", "expert", "projection", "critic"),
    [(32, 1_184_067, 8192 * 128 + 128, 662_977), (64, 3_807_043, 16_384 * 128 + 128, 2_764_737)],
)
def test_parameter_counts_match_the_released_code(pixels, expert, projection, critic):
    (generator, _), counts = counted(*RELEASED, pixels=pixels)
    assert counts["experts"] == 10 * expert
    assert size(generator.gate.mlp) == MLP == 1_085_130
    assert counts["gate"] == projection + MLP
    assert (counts["trunk"], counts["discriminator"]) == (0, critic)


def test_parameter_counts_match_the_papers_gate():
    """A projection for each expert, after batch norm of its features."""
    _, counts = counted("model=megan", pixels=32)
    assert counts["gate"] == 10 * (8192 * 128 + 128) + 2 * 10 * 8192 + MLP


@pytest.mark.parametrize(
    ("k", "pixels", "front_end"),
    [(4, 32, 2_099_256), (32, 32, 14_015_748), (4, 64, 4_196_408), (32, 64, 27_925_764)],
)
def test_parameter_counts_match_the_hmog_author(k, pixels, front_end):
    _, counts = counted("model=megan_hidden", f"model.k={k}", pixels=pixels)
    assert counts["gate"] + counts["experts"] == front_end


@pytest.mark.parametrize("pixels", [32, 64])
def test_feature_maps_match_the_released_code(pixels):
    (generator, discriminator), _ = counted(*RELEASED, "model.k=1", pixels=pixels)
    m = pixels // 8
    experts = generator.experts
    up = [layer for layer in experts.modules() if isinstance(layer, nn.ConvTranspose2d)]
    assert [layer.out_channels for layer in up] == [64 * m // 2**level for level in range(len(up) - 1)] + [3]
    latent_BZ = torch.empty(2, 128, device="meta")
    assert experts.first[0](latent_BZ).shape == (2, 64 * m // 2, 8, 8)  # f_i: after the second deconvolution
    assert isinstance(experts.first[0][-1][-1], nn.ReLU)
    assert experts.rest[0](experts.first[0](latent_BZ)).shape == (2, 3, pixels, pixels)
    assert {type(layer) for layer in discriminator.body} == {nn.Conv2d, nn.LeakyReLU, nn.Flatten}  # no norm


def test_hidden_vector_is_selected_before_the_trunk():
    generator, _ = small("megan_hidden")
    assert generator.experts.feature_size == 8 * 4 * 4
    seen = []
    generator.trunk.register_forward_hook(lambda trunk, inputs, output: seen.append(inputs[0]))
    latent_BZ = generator.latents(B)
    weights_BK = generator(latent_BZ).weights_BK
    hidden_KBH = generator.experts(generator.experts.expand(latent_BZ))
    torch.testing.assert_close(seen[0], hidden_KBH[weights_BK.argmax(dim=1), torch.arange(B)])


def test_layers_match_the_hmog_author():
    """Batch norm after the ReLU in the generator, before the leaky one in the discriminator of their MEGAN."""
    generator, discriminator = small("megan_hidden")
    kinds = [type(layer) for layer in generator.trunk.modules() if not list(layer.children())]
    assert kinds == [nn.Unflatten, nn.ConvTranspose2d, nn.ReLU, BatchNorm2d, nn.ConvTranspose2d, nn.Tanh]
    kinds = [type(layer) for layer in generator.experts.modules() if not list(layer.children())]
    assert [kind.__name__ for kind in kinds] == ["ReLU", "BatchNorm1d"]
    kinds = [type(layer) for layer in discriminator.body]
    assert kinds == [*[nn.Conv2d, BatchNorm2d, nn.LeakyReLU] * 2, nn.Flatten]


def test_hmog_authors_gate_uses_he_initialisation():
    gate = networks("model=megan_hidden", "model.k=4").generator.gate
    assert gate.weight_KFZ.shape == (1, 4096, 100) and not gate.bias_KZ.any()
    assert gate.weight_KFZ.std().item() == pytest.approx(math.sqrt(2 / 4096), rel=0.02)
    (layer,) = gate.mlp
    assert (layer.in_features, layer.out_features) == (500, 4) and not layer.bias.any()
    assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / 500), rel=0.05)


# Initial weights

TODAY = ("model.backbone.init=torch", "model.backbone.norm_scale=one", "model.gate.norm_scale=one")
"""The initialisation of today's torch."""


def scales_of(network):
    return torch.cat([layer.weight for layer in network.modules() if isinstance(layer, (BatchNorm1d, BatchNorm2d))])


@pytest.mark.parametrize(("overrides", "inputs"), [((), 0), (TODAY, 1)])
def test_initial_weights_are_those_of_the_codes_torch(overrides, inputs):
    """PyTorch 0.3.1: transposed convolutions of in → out channels ~ U(±1/√(in k²)), scales ~ U(0, 1)."""
    torch.manual_seed(0)
    generator, discriminator = networks("model=megan", "model.k=1", *overrides)
    for layer in (*generator.experts.modules(), *discriminator.modules()):
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            channels = layer.weight.shape[inputs if isinstance(layer, nn.ConvTranspose2d) else 1]
            bound = 1 / math.sqrt(channels * 16)
            assert layer.weight.abs().max().item() == pytest.approx(bound, rel=0.02)
            assert layer.bias.abs().max() <= bound
    for network in (generator.experts, generator.gate.mlp, generator.gate.norm):
        low, high = scales_of(network).aminmax()
        assert (low, high) == (1, 1) if overrides else low < 0.02 and high > 0.98


@pytest.mark.parametrize(("overrides", "share"), [((), 0.0), (TODAY, 0.52)])
def test_initial_images_are_those_of_the_released_code(overrides, share):
    """The share of pixels beyond ±0.5 before training: the code's torch begins with grey images, today's does not."""
    torch.manual_seed(0)
    generator, _ = networks("model=megan", "model.k=1", *overrides)
    with torch.no_grad():
        images = generator.experts(torch.randn(1, 64, 128))
    assert (images.abs() > 0.5).float().mean().item() == pytest.approx(share, abs=0.06)


@pytest.mark.parametrize("model", ["madgan", "mggan", "megan"])
def test_hmog_authors_scales_are_those_of_torch_1_1(model):
    """U(0, 1) in all batch norms, as before torch 1.2; the author's results are older than that."""
    networks_ = networks(f"experiment=hmog2019_{model}", "model.backbone.channels=8", "model.k=4", shape=(1, 32, 32))
    for network in networks_:
        low, high = scales_of(network).aminmax()
        assert 0 <= low < 0.1 and 0.9 < high <= 1


# The choice


@pytest.mark.parametrize("model", VARIANTS)
@pytest.mark.parametrize("mode", [True, False])
def test_weights_are_exactly_one_hot(model, mode):
    generator, _ = small(model, "model.gate.temperature=0.3")
    generator.train(mode)
    for weights_BK in (
        generator(generator.latents(200)).weights_BK,
        generator.weights(generator.latents(200)).weights_BK,
    ):
        assert torch.equal(weights_BK.detach().sort(dim=1).values, torch.tensor([0.0, 0.0, 1.0]).expand(200, 3))


def test_samples_come_from_the_selected_expert():
    generator, _ = small("megan")
    generator.eval()
    latent_BZ = generator.latents(B)
    samples, weights_BK = generator(latent_BZ)
    alone = torch.stack([generator(latent_BZ, expert=k).samples for k in range(K)])
    torch.testing.assert_close(samples, alone[weights_BK.argmax(dim=1), torch.arange(B)])
    assert len(weights_BK.argmax(dim=1).unique()) == K


@pytest.mark.parametrize("temperature", [0.05, 1.0, 5.0])
@pytest.mark.parametrize("mode", [True, False])
def test_selection_follows_the_softmax_of_the_logits(temperature, mode):
    """Of 20,000, within four standard deviations; in eval mode too the noise is drawn."""
    generator, _ = small("megan_hidden", f"model.gate.temperature={temperature}", "model.k=4")
    generator.train(mode)
    (layer,) = generator.gate.mlp
    nn.init.zeros_(layer.weight)
    with torch.no_grad():
        layer.bias.copy_(torch.tensor([0.5, -1.0, 2.0, 0.0]))
        chosen_BK = generator.weights(generator.latents(20_000)).weights_BK
    expected_K = layer.bias.detach().softmax(dim=0)
    deviation_K = (expected_K * (1 - expected_K) / 20_000).sqrt()
    assert ((chosen_BK.mean(dim=0) - expected_K).abs() < 4 * deviation_K).all()


@pytest.mark.parametrize("model", VARIANTS)
def test_gumbel_noise_is_reproducible_by_seed(model):
    generator, _ = small(model)
    generator.eval()
    latent_BZ = generator.latents(200)
    torch.manual_seed(1)
    first = generator(latent_BZ).weights_BK
    assert not torch.equal(generator(latent_BZ).weights_BK, first)
    torch.manual_seed(1)
    assert torch.equal(generator(latent_BZ).weights_BK, first)


def test_relaxed_weights_are_the_gumbel_softmax():
    """The same noise by hand: u from the same state, y = softmax((l - log(-log u)) / τ), the choice its largest."""
    generator, _ = small("megan", "model.gate.temperature=0.7")
    latent_BZ, logits = generator.latents(B), logits_of(generator)
    torch.manual_seed(1)
    weights = generator.weights(latent_BZ)
    torch.manual_seed(1)
    noise_BK = -(-torch.rand(B, K).log()).log()
    expected_BK = ((logits[0] + noise_BK) / 0.7).softmax(dim=1)
    torch.testing.assert_close(weights.relaxed_BK, expected_BK)
    assert torch.equal(weights.weights_BK.argmax(dim=1), expected_BK.argmax(dim=1))


def test_temperature_follows_the_released_schedule():
    """τ = max(0.01, exp(-1e-4 t)), updated every 781 generator steps."""
    schedule = build_schedule(composed("model=megan").model.gate, nimg=10**6)
    gate = small("megan").generator.gate
    for step, expected in [
        (0, 1),
        (780, 1),
        (781, math.exp(-0.0781)),
        (1561, math.exp(-0.0781)),
        (7_810, math.exp(-0.781)),
        (45_298, math.exp(-4.5298)),
        (60_000, 0.01),
        (300_000, 0.01),
    ]:
        gate.anneal(schedule.factor(64 * step, step))
        assert gate.temperature.item() == pytest.approx(expected, rel=1e-6)
    latent_BZ, features_KBF = torch.randn(B, 6), torch.randn(K, B, gate.weight_KFZ.shape[1])
    assert gate(latent_BZ, features_KBF).abs().max() < 100  # logits are as they were: τ divides after the noise


def test_hmog_authors_temperature_is_constant():
    assert build_schedule(composed("model=megan_hidden").model.gate, nimg=10**6) is None
    assert small("megan_hidden").generator.gate.temperature.item() == 1


# Logits


@pytest.mark.parametrize("projection", ["shared", "per_expert"])
def test_logits_equal_a_computation_by_hand(projection):
    """h_i = ReLU(W^i f_i + b^i), l = MLP([z; h_1; …; h_K])."""
    gate = small("megan", f"model.gate.projection={projection}", "model.gate.projection_norm=false").generator.gate
    assert len(gate.weight_KFZ) == (1 if projection == "shared" else K)
    latent_BZ, features_KBF = torch.randn(B, 6), torch.randn(K, B, gate.weight_KFZ.shape[1])
    parts = [latent_BZ]
    for k in range(K):
        own = 0 if projection == "shared" else k
        parts.append((features_KBF[k] @ gate.weight_KFZ[own] + gate.bias_KZ[own]).clamp(min=0))
    torch.testing.assert_close(gate(latent_BZ, features_KBF), gate.mlp(torch.cat(parts, dim=1)), atol=1e-5, rtol=1e-4)
    kinds = [type(layer) for layer in gate.mlp]
    assert kinds == [nn.Linear, BatchNorm1d, nn.ReLU, nn.Linear, BatchNorm1d, nn.ReLU, nn.Linear]
    widths = [layer.out_features for layer in gate.mlp if isinstance(layer, nn.Linear)]
    assert widths == [(K + 1) * 6 // 2, 6, K]


def test_features_are_normalised_before_projection():
    """Per expert and unit, over the batch: scale and shift of an expert's features do not matter to its projection."""
    gate = small("megan").generator.gate
    latent_BZ, features_KBF = torch.randn(B, 6), torch.randn(K, B, gate.weight_KFZ.shape[1])
    scale_K11 = torch.tensor([1.0, 10.0, 0.3])[:, None, None]
    torch.testing.assert_close(
        gate(latent_BZ, features_KBF), gate(latent_BZ, scale_K11 * features_KBF + 5), atol=1e-3, rtol=1e-2
    )


def test_hmog_authors_projection_is_linear():
    gate = small("megan_hidden").generator.gate
    features_KBF = torch.randn(K, B, gate.weight_KFZ.shape[1])
    projected = torch.cat([features_BF @ gate.weight_KFZ[0] + gate.bias_KZ[0] for features_BF in features_KBF], dim=1)
    latent_BZ = torch.randn(B, 6)
    (layer,) = gate.mlp
    torch.testing.assert_close(
        gate(latent_BZ, features_KBF), layer(torch.cat((latent_BZ, projected), dim=1)), atol=1e-5, rtol=1e-4
    )


# Gradients


@pytest.mark.parametrize("model", VARIANTS)
def test_logits_of_unselected_experts_have_gradients(model):
    generator, discriminator = small(model)
    logits = logits_of(generator)
    samples, weights_BK = generator(generator.latents(B))
    (-discriminator(samples).scores_N.mean()).backward()
    assert (logits[0].grad[weights_BK == 0].abs() > 0).all()


def test_unselected_experts_get_no_gradient_in_their_last_layers():
    """Images give no gradient to unselected experts; the gate gives one to the first layers of every expert."""
    generator, discriminator = small("megan")
    torch.manual_seed(1)
    samples, weights_BK = generator(generator.latents(B))
    chosen_B = weights_BK.argmax(dim=1)
    loss_B = -discriminator(samples).scores_N
    assert len(chosen_B.unique()) == K
    for k in range(K):
        generator.zero_grad()
        loss_B[chosen_B == k].mean().backward(retain_graph=True)
        for j in range(K):
            assert any(moved(generator.experts.rest[j])) == (j == k)
            assert all(p.grad.any() for p in generator.experts.first[j].parameters() if p.dim() > 1)


def test_unselected_experts_get_gradients_through_the_gate_only():
    """Without the gate, the loss of one expert's image gives no gradient to the first layers of another."""
    generator, discriminator = small("megan")
    latent_BZ = generator.latents(B)
    images = generator.experts(generator.experts.expand(latent_BZ))
    (-discriminator(images[0]).scores_N.mean()).backward()
    assert any(moved(generator.experts.first[0])) and not any(moved(generator.experts.first[1]))


def test_gate_gets_gradients_from_every_experts_output():
    """dL/dg_k = ⟨dL/dFI, o_k⟩, whichever k was chosen."""
    generator, discriminator = small("megan")
    images = []
    for rest in generator.experts.rest:
        rest.register_forward_hook(lambda layer, inputs, output: images.append(output.detach()))
    samples, weights_BK = generator(generator.latents(B))
    weights_BK.retain_grad()
    samples.retain_grad()
    (-discriminator(samples).scores_N.mean()).backward()
    expected_BK = torch.stack([(samples.grad * image).flatten(1).sum(dim=1) for image in images], dim=1)
    torch.testing.assert_close(weights_BK.grad, expected_BK)
    assert weights_BK.grad.abs().min() > 0


def test_each_experts_batch_norm_sees_all_latents():
    generator, _ = small("megan")
    seen = []
    for layer in generator.experts.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.register_forward_hook(lambda layer, inputs, output: seen.append(len(inputs[0])))
    generator(generator.latents(B))
    assert seen == [B] * 2 * K
