"""Misuse of the language game and its parts: one line that names the argument."""

import re

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from palaver import topology
from palaver.language import estimators, generators, information, language_game, observation
from palaver.types import PalaverError

NAN = float("nan")
RNGS = nnx.Rngs(0)


def game(shape=(4, 4), classes=3, **given):
    return language_game(shape, classes, **given)


def sender(**given):
    return generators.AllAtOnce((4, 4), **given, rngs=RNGS)


MISUSES = {
    "shape a number": ("shape", lambda: game(16)),
    "shape of floats": ("shape", lambda: game((4.0, 4))),
    "shape of zeros": ("shape", lambda: game((0, 4))),
    "classes 2.5": ("classes", lambda: game(classes=2.5)),
    "classes 0": ("classes", lambda: game(classes=0)),
    "classes True": ("classes", lambda: game(classes=True)),
    "agents 2.5": ("agents", lambda: game(agents=2.5)),
    "agents True": ("agents", lambda: game(agents=True)),
    "agents text": ("agents", lambda: game(agents="2")),
    "weight NaN": ("weight", lambda: game(weight=NAN)),
    "weight infinite": ("weight", lambda: game(weight=float("inf"))),
    "weight text": ("weight", lambda: game(weight="1")),
    "length_cost NaN": ("length_cost", lambda: game(length_cost=NAN)),
    "level None": ("level", lambda: game(level=None)),
    "level a list": ("level", lambda: game(level=["both"])),
    "sampled text": ("sampled", lambda: game(sampled="yes")),
    "optimizer a name": ("optimizer", lambda: game(optimizer="adam")),
    "learning rate NaN": ("optimizer", lambda: game(optimizer=optax.adam(NAN))),
    "probe_optimizer a rate": ("probe_optimizer", lambda: game(probe_optimizer=1e-3)),
    "probe's learning rate NaN": ("probe_optimizer", lambda: game(probe_optimizer=optax.sgd(NAN))),
    "view a name": ("view", lambda: game(view="halves")),
    "view a factory": ("view", lambda: game(view=observation.halves)),
    "estimator a name": ("estimator", lambda: game(estimator="reinforce")),
    "estimator a factory": ("estimator", lambda: game(estimator=estimators.reinforce)),
    "objective a name": ("objective", lambda: game(objective="info-nce")),
    "objective a factory": ("objective", lambda: game(objective=information.info_nce)),
    "generator a module": ("generator", lambda: game(generator=sender())),
    "generator of another shape": ("generator", lambda: game((5, 5), generator=lambda rngs: sender())),
    "critic a module": ("critic", lambda: game(critic=information.Critic((4, 4), (32, 2), rngs=RNGS))),
    "topology an array": ("topology", lambda: game(topology=np.array([[1], [0]]))),
    "topology: id out of range": ("topology", lambda: game(topology=lambda step: jnp.array([[1], [2]]))),
    "topology: self-loop": ("topology", lambda: game(topology=lambda step: jnp.array([[0], [1]]))),
    "topology of other agents": ("topology", lambda: game(agents=2, topology=topology.full(3))),
    "length 2.5": ("length", lambda: sender(length=2.5)),
    "length True": ("length", lambda: sender(length=True)),
    "vocabulary 1": ("vocabulary", lambda: sender(vocabulary=1)),
    "vocabulary 2.5": ("vocabulary", lambda: sender(vocabulary=2.5)),
    "hidden a number": ("hidden", lambda: sender(hidden=256)),
    "hidden 0": ("hidden", lambda: sender(hidden=(0,))),
    "clip NaN": ("clip", lambda: sender(clip=NAN)),
    "clip text": ("clip", lambda: sender(clip="1")),
    "Recurrent: length 2.5": ("length", lambda: generators.Recurrent((4, 4), length=2.5, rngs=RNGS)),
    "Critic: hidden 2.5": ("hidden", lambda: information.Critic((4, 4), (3, 2), hidden=2.5, rngs=RNGS)),
    "Critic: kind None": ("kind", lambda: information.Critic((4, 4), (3, 2), kind=None, rngs=RNGS)),
    "annealed: start NaN": ("start", lambda: estimators.annealed(start=NAN)),
    "annealed: start text": ("start", lambda: estimators.annealed(start="4")),
    "annealed: floor 0": ("floor", lambda: estimators.annealed(floor=0)),
    "annealed: decay NaN": ("decay", lambda: estimators.annealed(decay=NAN)),
    "annealed: every 2.5": ("every", lambda: estimators.annealed(every=2.5)),
    "gumbel_softmax: temperature a number": ("temperature", lambda: estimators.gumbel_softmax(1.0)),
    "straight_through: temperature a number": ("temperature", lambda: estimators.straight_through(1.0)),
    "reinforce: samples 2.5": ("samples", lambda: estimators.reinforce(samples=2.5)),
    "reinforce: samples True": ("samples", lambda: estimators.reinforce(samples=True)),
    "reinforce: entropy NaN": ("entropy", lambda: estimators.reinforce(entropy=NAN)),
    "reinforce: entropy infinite": ("entropy", lambda: estimators.reinforce(entropy=float("inf"))),
    "inversion: noise text": ("noise", lambda: observation.inversion(noise="0.1")),
    "inversion: noise NaN": ("noise", lambda: observation.inversion(noise=NAN)),
    "crops: size NaN": ("size", lambda: observation.crops(size=NAN)),
    "crops: size text": ("size", lambda: observation.crops(size="1")),
    "additive: deviation NaN": ("deviation", lambda: observation.additive(deviation=NAN)),
    "additive: deviation infinite": ("deviation", lambda: observation.additive(deviation=float("inf"))),
    "donsker_varadhan: decay text": ("decay", lambda: information.donsker_varadhan(decay="0.9")),
    "donsker_varadhan: decay NaN": ("decay", lambda: information.donsker_varadhan(decay=NAN)),
}


@pytest.mark.parametrize(("argument", "misuse"), MISUSES.values(), ids=MISUSES)
def test_misuse_is_refused_in_one_line_that_names_the_argument(argument, misuse):
    with pytest.raises(PalaverError) as error:
        misuse()
    line = str(error.value)
    assert re.search(rf"\b{argument}\b", line), line
    assert "\n" not in line and ": " in line
