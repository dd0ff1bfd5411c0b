"""A site that learns with PyTorch (extra ``torch``)."""

import copy
from typing import Any

import numpy as np

from palaver.arguments import failure_of
from palaver.peers.learners.payload import alike, as_seed, check_of_classes, encoded, scaled
from palaver.types import NO_LABEL, Channel, Outputs, PalaverError, PyTree

try:
    import torch
except ImportError:
    raise PalaverError('PyTorch is not installed: pip install "palaver-learning[torch]"') from None
from torch import Tensor, nn
from torch.nn.functional import cross_entropy


class TorchLearner:
    """A module and its optimiser, as a ``palaver.peers.learners.Learner``.

    It learns labels and received distributions by their cross-entropy.

    Args:
        module: maps inputs ``[B, ...]``, float32, to logits ``[B, C]`` or to a pair of these and features ``[B, D]``.
        optimizer: of the module's parameters.
        channel: of classes: ``labels``, ``logits`` or ``labels_logits`` of ``palaver.channels``.
        classes: C.

    Raises:
        PalaverError: another channel, or an optimiser whose step needs a closure.

    """

    def __init__(self, module: nn.Module, optimizer: torch.optim.Optimizer, channel: Channel, *, classes: int) -> None:
        self.module, self.optimizer = module, optimizer
        self._channel, self._classes = channel, check_of_classes(channel, classes)
        with failure_of("optimizer", "give one of torch.optim whose step needs no closure, such as Adam"):
            _stepped(module, optimizer)

    def learn(
        self, x: np.ndarray, labels: np.ndarray, received: PyTree | None, *, seed: np.ndarray, say: bool = False
    ) -> PyTree | None:
        """See ``Learner.learn``."""
        devices = list(range(torch.cuda.device_count()))
        # PyTorch's own function for all devices is slow: it notes where it was called from.
        seeded = torch.manual_seed if devices else torch.default_generator.manual_seed
        with torch.random.fork_rng(devices):  # dropout draws from PyTorch's global generators
            seeded(as_seed(seed))
            self.module.train()
            logits, features = self._forward(x)
        loss = _loss(logits, labels, received)
        if received is not None and not loss.isfinite():
            raise ValueError("the loss on what was received is not finite")
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return encoded(self._channel, _outputs(logits, features), labels) if say else None

    def encode(self, x: np.ndarray) -> PyTree:
        """See ``Learner.encode``."""
        return encoded(self._channel, self.predict(x), np.full(len(x), NO_LABEL, np.int32))

    def predict(self, x: np.ndarray) -> Outputs:
        """See ``Learner.predict``."""
        self.module.eval()
        with torch.no_grad():
            return _outputs(*self._forward(x))

    def _forward(self, x: np.ndarray) -> tuple[Tensor, Tensor]:
        """Logits and features."""
        device = next(self.module.parameters()).device
        found = self.module(torch.tensor(scaled(x), device=device))
        logits, features = found if isinstance(found, tuple) else (found, found[:, :0])
        if logits.shape != (len(x), self._classes):
            shape = (len(x), self._classes)
            raise PalaverError(f"the module gives logits {tuple(logits.shape)} for inputs {x.shape}: make them {shape}")
        return logits, features

    def arrays(self) -> dict[str, np.ndarray]:
        """See ``Learner.arrays``."""
        return _arrays(self.module, self.optimizer)

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """See ``Learner.restore``."""
        own = _arrays(*_stepped(self.module, self.optimizer))
        # Of a parameter without a gradient so far the optimiser has no state.
        own = {name: array for name, array in own.items() if name in arrays or name.startswith("module/")}
        if not alike(arrays, own):
            raise ValueError("these are the arrays of another model or optimiser")
        module, state = dict[str, Tensor](), dict[int, dict[str, Tensor]]()
        for path, array in arrays.items():
            part, _, name = path.partition("/")
            if part == "module":
                module[name] = torch.tensor(array)
            else:
                place, _, name = name.partition("/")
                state.setdefault(int(place), {})[name] = torch.tensor(array)
        self.module.load_state_dict(module)
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": state})


def _loss(logits: Tensor, labels: np.ndarray, received: PyTree | None) -> Tensor:
    """Mean cross-entropy of what was received, or of the labels that are known; 0 where none is."""
    if received is not None:
        return cross_entropy(logits, torch.tensor(received, device=logits.device))
    wanted = torch.as_tensor(labels, device=logits.device).long()
    total = cross_entropy(logits, wanted, ignore_index=NO_LABEL, reduction="sum")
    return total / max(1, int((labels != NO_LABEL).sum()))


def _outputs(logits: Tensor, features: Tensor) -> Outputs:
    parts: Any = [part.detach().float().cpu().numpy().copy() for part in (logits, features)]
    return Outputs(*parts)


def _arrays(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, np.ndarray]:
    """``module/NAME`` and ``optimizer/PLACE/NAME``, copies."""
    tensors: dict[str, Any] = {f"module/{name}": tensor for name, tensor in module.state_dict().items()}
    for place, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{place}/{name}": part for name, part in state.items() if part is not None}
    return {name: torch.as_tensor(tensor).detach().cpu().numpy().copy() for name, tensor in tensors.items()}


def _stepped(module: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Copies after a step, so that the optimiser has all its state."""
    module, optimizer = copy.deepcopy((module, optimizer))
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    return module, optimizer
