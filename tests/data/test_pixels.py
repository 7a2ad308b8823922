import torch

from mixgan_cli.data.images import to_float, to_uint8

BYTES = torch.arange(256, dtype=torch.uint8)


def test_every_byte_comes_back():
    assert torch.equal(to_uint8(to_float(BYTES)), BYTES)


def test_range():
    values = to_float(BYTES)
    assert values.dtype == torch.float32
    assert values[0] == -1 and values[255] == 1


def test_rounds_to_the_nearest_and_clips():
    step = 2 / 255
    assert to_uint8(torch.tensor([-1 + 0.4 * step, -1 + 0.6 * step, -5.0, 5.0])).tolist() == [0, 1, 0, 255]


def test_half_precision_is_widened_first():
    values = torch.linspace(-1, 1, 256)
    half = values.to(torch.bfloat16)
    assert torch.equal(to_uint8(half), to_uint8(half.float()))
