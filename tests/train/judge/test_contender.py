"""What is judged, and what it is said to be."""

import pytest
from fcunet_dask.model.weights import find_weights
from fcunet_dask.train.judge.contender import Contender


@pytest.mark.parametrize("name", ["fcunet", "fcunet_fine", "fcunet_paper"])
def test_parameters_are_those_that_are_learnt(name):
    """As the card says; moving averages of a normalisation are none."""
    _, card = find_weights(name.removesuffix("_fine"))
    assert Contender(name, {}).parameters == card.training["parameters"]


def test_template_matching_has_no_parameters():
    assert Contender("correlation", {}).parameters == 0
