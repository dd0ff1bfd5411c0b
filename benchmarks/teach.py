"""(f) Table 3.1's student without a teacher against PyTorch; (g) updates with a stack of five against those without."""

import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks.measure import alternate, real, say
from benchmarks.torch_nodes import mlp, rounds
from palaver.models import MLP
from palaver.node import learner
from palaver.objectives import distributions
from palaver.studies.seeds import seed_keys
from palaver.teaching import difficulty, selection, targets
from palaver.teaching.train import SelectionConfig, TeachingData, student_training

UPDATES, TORCH_UPDATES, BOUND = 200, 100, 2.5
CONFIGURATIONS = {
    "no_teacher": (1, "cross-entropy", targets.true()),
    "n5": (5, "cross-entropy", targets.soft()),
    "n5_selective_backprop": (5, "student-loss", targets.true()),
    "n5_rho_loss": (5, "reducible-loss", targets.true()),
}

data = real("mnist", (28, 28))
node = learner(lambda rngs: MLP(data.shape, data.classes, rngs=rngs), distributions())
table = np.random.default_rng(0).dirichlet(np.full(data.classes, 0.1), len(data.y_train)).astype(np.float32)
teaching_data = TeachingData(jnp.asarray(data.x_train), jnp.asarray(data.y_train, jnp.int32), jnp.asarray(table))


class Side:
    """Students of one configuration, several seeds at once."""

    def __init__(self, name: str, seeds: int):
        self.size, measure, target = CONFIGURATIONS[name]
        config = SelectionConfig(32, difficulty.MEASURES[measure], selection.top(), target)
        self.training = student_training(node, config, teaching_data)
        self.state = self.training.init(seed_keys(range(seeds)))

    def __call__(self) -> None:
        self.state = jax.block_until_ready(self.training.advance(self.state, UPDATES, self.size))


sides = {name: Side(name, 5) for name in CONFIGURATIONS} | {"one": Side("no_teacher", 1)}
medians = alternate(sides | {"torch": rounds(mlp, torch.randn(32, 784), 1, TORCH_UPDATES)})
per_second = TORCH_UPDATES / medians["torch"]
say(
    student_alone=(UPDATES / medians["one"], per_second, "updates/s"),
    students_five_at_once=(5 * UPDATES / medians["no_teacher"], per_second, "updates/s"),
    **{
        f"an_update_{name}": (medians[name] / medians["no_teacher"], BOUND, "< × an update without teacher")
        for name in list(CONFIGURATIONS)[1:]
    },
)
