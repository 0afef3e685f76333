"""Synthetic sounds in the layouts of the real archives, for the demo and the tests."""
