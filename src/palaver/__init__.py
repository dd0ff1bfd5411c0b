"""palaver: many models that learn by talking to each other; labels, logits or features travel, never gradients."""

from palaver import channels, data, decision, models, objectives, probe, teaching, topology
from palaver.engines import History, collective, evaluate, simulation, train, use_cores
from palaver.node import learner, supervised
from palaver.types import NO_PEER, Batch, Channel, Node, NodeState, Outputs, PalaverError

__version__ = "0.1.0"

__all__ = [
    "NO_PEER",
    "Batch",
    "Channel",
    "History",
    "Node",
    "NodeState",
    "Outputs",
    "PalaverError",
    "channels",
    "collective",
    "data",
    "decision",
    "evaluate",
    "learner",
    "models",
    "objectives",
    "probe",
    "simulation",
    "supervised",
    "teaching",
    "topology",
    "train",
    "use_cores",
]
