"""What is PyTorch's own: random streams, features, and which optimisers and modules can take part."""

import numpy as np
import pytest
import torch
from learners import BATCH, INPUTS, WithFeatures, batch, in_sklearn, in_torch

from palaver.types import PalaverError


def test_dropout_depends_on_the_seed_and_disturbs_nobody():
    def after(seed):
        learner = in_torch(module=WithFeatures)
        torch.manual_seed(3)
        learner.learn(*batch(0)[:2], None, seed=np.array(seed, np.uint32))
        assert torch.rand(()).item() == expected
        return learner.arrays()["module/head.weight"]

    torch.manual_seed(3)
    expected = torch.rand(()).item()
    np.testing.assert_array_equal(after([1, 2]), after([1, 2]))
    assert (after([1, 2]) != after([2, 2])).any()
    assert (after([1, 2]) != after([1, 3])).any()


def test_features_are_those_of_the_module():
    learner = in_torch(module=WithFeatures)
    x, *_ = batch(0)
    outputs = learner.predict(x)
    with torch.no_grad():
        expected = learner.module.trunk(torch.tensor(x))
    np.testing.assert_array_equal(outputs.features, expected.numpy())
    assert in_torch().predict(x).features.shape == in_sklearn().predict(x).features.shape == (BATCH, 0)


def test_an_optimiser_that_needs_a_closure_is_refused():
    with pytest.raises(PalaverError, match="optimizer"):
        in_torch(optimizer=torch.optim.LBFGS)


def test_a_module_of_other_classes_is_named():
    learner = in_torch(module=lambda: torch.nn.Linear(INPUTS, 5))
    with pytest.raises(PalaverError, match=r"logits \(6, 5\) for inputs \(6, 4\): make them \(6, 3\)"):
        learner.predict(batch(0)[0])
