"""Backbones: the layers of generator and discriminator."""
