"""The networks: pure modules that know no loss.

Shape suffixes: B latents or images, K experts, Z latent size, H hidden size, C channels, N a number of scores.
"""
