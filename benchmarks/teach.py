"""(f) Table 3.1's student without a teacher against PyTorch; (g) an update chosen from a stack of five against one."""

import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks.measure import alternate, real, say
from benchmarks.torch_nodes import mlp, rounds
from palaver.engines import seed_keys
from palaver.engines.teach import Lesson, Material, teaching
from palaver.models import MLP
from palaver.node import learner
from palaver.objectives import distributions
from palaver.teaching import difficulty, selection, targets

UPDATES, THEIRS, BOUND = 200, 100, 2.5
LESSONS = {
    "no_teacher": (1, "cross-entropy", targets.true()),
    "n5": (5, "cross-entropy", targets.soft()),
    "n5_selective_backprop": (5, "student-loss", targets.true()),
    "n5_rho_loss": (5, "reducible-loss", targets.true()),
}

data = real("mnist", (28, 28))
node = learner(lambda rngs: MLP(data.shape, data.classes, rngs=rngs), distributions())
table = np.random.default_rng(0).dirichlet(np.full(data.classes, 0.1), len(data.y_train)).astype(np.float32)
material = Material(jnp.asarray(data.x_train), jnp.asarray(data.y_train, jnp.int32), jnp.asarray(table))


class Side:
    """Students of one lesson, some seeds at once."""

    def __init__(self, lesson: str, seeds: int):
        self.size, measure, target = LESSONS[lesson]
        self.engine = teaching(node, Lesson(32, difficulty.MEASURES[measure], selection.top(), target), material)
        self.students = self.engine.init(seed_keys(range(seeds)))

    def __call__(self) -> None:
        self.students = jax.block_until_ready(self.engine.advance(self.students, UPDATES, self.size))


sides = {name: Side(name, 5) for name in LESSONS} | {"one": Side("no_teacher", 1)}
medians = alternate(sides | {"torch": rounds(mlp, torch.randn(32, 784), 1, THEIRS)})
per_second = THEIRS / medians["torch"]
say(
    student_alone=(UPDATES / medians["one"], per_second, "updates/s"),
    students_five_at_once=(5 * UPDATES / medians["no_teacher"], per_second, "updates/s"),
    **{
        f"an_update_{name}": (medians[name] / medians["no_teacher"], BOUND, "< × an update without teacher")
        for name in list(LESSONS)[1:]
    },
)
