"""Recipes of a training: what they refuse, and that they travel as JSON."""

import json
from dataclasses import replace

import pytest
from fcunet_dask.errors import FcunetError, ParameterError
from fcunet_dask.model.weights import SHIPPED as WEIGHTS
from fcunet_dask.train.data import DataRecipe
from fcunet_dask.train.recipe import SHIPPED, TrainRecipe, load_recipe


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipes_load_and_survive_json(name):
    recipe = load_recipe(name)
    assert recipe.steps > recipe.warm_up
    there = json.loads(json.dumps(recipe.to_dict()))
    again = TrainRecipe.from_dict(there)
    assert json.loads(json.dumps(again.to_dict())) == there
    assert again.data == recipe.data
    if name in WEIGHTS:
        assert recipe.network == name


def test_a_file_is_read(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text(
        "steps = 7\n[data]\nsize = 32\n[data.artefacts]\ndose = [10.0, 20.0]\n"
    )
    recipe = load_recipe(path)
    assert (recipe.steps, recipe.data.size) == (7, 32)
    assert recipe.data.artefacts.dose == (10.0, 20.0)
    usual = DataRecipe().artefacts
    assert replace(recipe.data.artefacts, dose=usual.dose) == usual


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("stepz = 7", "stepz"),
        ("[data]\nsise = 7", r"data\.sise"),
        ("[data.artefacts]\ndoze = [1, 2]", r"data\.artefacts\.doze"),
        ("batch = 0", "batch"),
        ("steps = -3", "steps"),
        ("rate = 0.0", "rate"),
        ("clip = 0", "clip"),
        ("average = 1.0", "average"),
        ("batch = 30", "crops"),
        ("[data]\ncrops = 0", "crops"),
        ("[data]\nsize = 0", "size"),
        ("[data]\njitter = 1.5", "jitter"),
        ("[data]\nfine = -0.1", "fine"),
        ("[data.artefacts]\ndose = [20.0, 10.0]", "dose"),
        ("warm_up = -1", "warm_up"),
        ('batch = "many"', "batch"),
        ("steps = ", "no TOML"),
        ("steps = 2.5", "steps must be int"),
        ("seed = -1", "seed"),
        ('seed = "x"', "seed must be int"),
        ("decay = -5.0", "decay"),
        ('warm_up = "x"', "warm_up"),
        ('average = "a"', "average"),
        ("rate = inf", "rate"),
        ('precision = "float99"', "float32 or mixed_bfloat16"),
        ('precision = "mixed_float16"', "float32 or mixed_bfloat16"),
        ("options = 3", "options must be a table"),
        ("data = 3", "data must be a table"),
        ("[data]\nartefacts = 3", r"data\.artefacts must be a table"),
        ('[data]\nfine = "x"', "fine must be int or float"),
        ('[data.artefacts]\ndose = "ab"', "dose must be a list"),
        ("[data.artefacts]\ndose = [1, 2, 3]", "dose must be .lowest, highest"),
        ("[data.artefacts]\ndose = [0.0, 1.0]", "dose .* must be positive"),
        ("[data.artefacts]\nstopped = 5.0", "stopped is a share"),
        ("[data.artefacts]\ncameras = 0", "cameras"),
    ],
)
def test_mistakes_are_refused_by_name(text, named, tmp_path):
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(FcunetError, match=named):
        load_recipe(path)


def test_an_unknown_recipe_is_refused_with_those_there_are():
    with pytest.raises(ParameterError, match=r"'magic'.*quick"):
        load_recipe("magic")
