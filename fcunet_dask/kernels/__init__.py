"""Laws on plain arrays: NumPy and CuPy by the same code, no labels, no Dask."""
