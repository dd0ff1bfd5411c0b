"""The three libraries whose arrays the teacher's functions take."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch

LIBRARIES = {"numpy": np.asarray, "jax": jnp.asarray, "torch": torch.as_tensor}


@pytest.fixture(params=LIBRARIES)
def array(request):
    """Converts a NumPy array or a list to an array of one library."""
    return LIBRARIES[request.param]
