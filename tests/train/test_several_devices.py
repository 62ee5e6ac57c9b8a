"""A batch that two devices share teaches the same as one that a single device has."""

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("jax")

PROGRAM = """
import json, sys
import keras
from fcunet_dask.errors import ParameterError
from fcunet_dask.train import loop
from fcunet_dask.train.data import DataRecipe
from fcunet_dask.train.recipe import TrainRecipe
from fcunet_dask.model.weights import find_weights, load_network

recipe = TrainRecipe(
    options={"filters": [2], "gates": [1]},
    data=DataRecipe(size=16, crops=2),
    batch=4, steps=4, warm_up=2, average=0.5,
)
library, out = sys.argv[1:]
used = []
look = loop.compiled

def seen(recipe):
    model = look(recipe)
    used.append(len(model.trainable_variables[0].value.sharding.device_set))
    return model

loop.compiled = seen

def weights(name):
    loop.train(recipe, library, f"{out}/{name}", processes=0, every=2, until=2)
    file = loop.train(recipe, library, f"{out}/{name}", processes=0, every=2)
    return load_network(*find_weights(str(file))).get_weights()

both = weights("two")
try:
    loop.train(TrainRecipe(batch=9, data=DataRecipe(crops=3)), library, f"{out}/odd")
except ParameterError as error:
    refused = str(error)
keras.distribution.list_devices = lambda: ["cpu:0"]
alone = weights("one")
apart = max(float(abs(a - b).max()) for a, b in zip(both, alone, strict=True))
moved = max(float(abs(w).max()) for w in both)
print(json.dumps({"used": used, "apart": apart, "moved": moved, "refused": refused}))
"""


def test_two_devices_learn_what_one_learns(tiny_library, tmp_path):
    """Four steps, stopped after two; JAX is told to see two CPU devices."""
    flags = "--xla_force_host_platform_device_count=2"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tiny_library), str(tmp_path)],
        env={**os.environ, "KERAS_BACKEND": "jax", "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["used"] == [2, 1]
    assert told["apart"] < 1e-5 * max(told["moved"], 1.0)
    assert "batch 9 must be a multiple of the 2 devices" in told["refused"]
