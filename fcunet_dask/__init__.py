"""Bragg disks, lattices and strain of 4D-STEM scans of any size."""
