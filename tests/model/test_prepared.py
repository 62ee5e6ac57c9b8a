"""What is no stack of patterns is refused before anything is computed."""

import numpy as np
import pytest
from fcunet_dask.errors import ParameterError
from fcunet_dask.model.fcunet import FCUNet
from fcunet_dask.model.template import TemplateMatching

DETECTORS = [TemplateMatching(radius=4.0), FCUNet(radius=4.0)]
WAYS = [*DETECTORS, DETECTORS[1].structure_factors]


@pytest.mark.parametrize("take", WAYS, ids=["template", "fcunet", "structure factors"])
@pytest.mark.parametrize(
    ("patterns", "words"),
    [
        (np.ones((64, 64)), r"shape \(64, 64\): pass patterns\[None\]"),
        (np.ones((2, 3, 64, 64)), r"\(n, rows, columns\), got .* \(2, 3, 64, 64\)$"),
        (np.ones((1, 64, 64), complex), r"real numbers, got complex128"),
        (np.full((1, 64, 64), "1"), r"real numbers, got <U1"),
        (np.ones((0, 64, 64), complex), r"real numbers, got complex128"),
    ],
)
def test_what_is_no_stack_of_patterns_is_refused(take, patterns, words):
    with pytest.raises(ParameterError, match=words):
        take(patterns)
