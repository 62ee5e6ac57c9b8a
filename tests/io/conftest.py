import gc
import warnings

import pytest
from fcunet_dask.io.detectors import _signals


@pytest.fixture
def files_left_open_are_closed():
    """RosettaSciIO leaves some files to the garbage collector, which complains."""
    yield
    _signals.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
