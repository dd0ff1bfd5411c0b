"""The three libraries whose arrays the teacher's functions take."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch

LIBRARIES = {"numpy": np.asarray, "jax": jnp.asarray, "torch": torch.as_tensor}


@pytest.fixture(params=LIBRARIES)
def array(request):
    """Makes an array of one library of a NumPy array or a list."""
    return LIBRARIES[request.param]
