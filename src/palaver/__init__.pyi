from . import baselines, channels, data, decision, language, models, objectives, probe, teaching, topology
from .devices import use_cores
from .errors import PalaverError
from .exchange.description import Collective, collective
from .exchange.evaluate import evaluate
from .exchange.shards import shards
from .exchange.simulate import simulation
from .exchange.train import History, train
from .node import learner, supervised
from .types import NO_LABEL, NO_PEER, Batch, Channel, Node, NodeState, Outputs
from .version import __version__ as __version__

__all__ = [
    "NO_LABEL",
    "NO_PEER",
    "Batch",
    "Channel",
    "Collective",
    "History",
    "Node",
    "NodeState",
    "Outputs",
    "PalaverError",
    "baselines",
    "channels",
    "collective",
    "data",
    "decision",
    "evaluate",
    "language",
    "learner",
    "models",
    "objectives",
    "probe",
    "shards",
    "simulation",
    "supervised",
    "teaching",
    "topology",
    "train",
    "use_cores",
]
