"""Plots of a run, a sweep and a mixture. Matplotlib takes a second to import, so functions import it when they draw."""
