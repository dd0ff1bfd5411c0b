"""Engines: a collective as one compiled program, on one device or a mesh, and its evaluation."""

from palaver.engines.description import Collective, collective
from palaver.engines.evaluate import Scores, calibrate, evaluate
from palaver.engines.mesh import ONE_DEVICE, Spread, across, keep_compiled, over, use_cores
from palaver.engines.probing import Probed, probing
from palaver.engines.simulate import Simulation, simulation
from palaver.engines.state import Shards, State
from palaver.engines.train import History, seed_keys, shards, train

__all__ = [
    "ONE_DEVICE",
    "Collective",
    "History",
    "Probed",
    "Scores",
    "Shards",
    "Simulation",
    "Spread",
    "State",
    "across",
    "calibrate",
    "collective",
    "evaluate",
    "keep_compiled",
    "over",
    "probing",
    "seed_keys",
    "shards",
    "simulation",
    "train",
    "use_cores",
]
