"""Simulated diffraction with known truth."""

from fcunet_dask.simulate.kinematic import KinematicRecipe, simulate_scan

__all__ = ["KinematicRecipe", "simulate_scan"]
