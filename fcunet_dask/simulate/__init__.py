"""Simulated diffraction with known truth."""
