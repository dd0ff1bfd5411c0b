"""One site of ``benchmarks.thin_links``, a process on a machine of its own: its training, and a log of how good it is.

``python -m benchmarks.thin_site RUN.json RANK`` trains until it is ended. All methods have the same model, shard,
minibatches and optimiser. A peer's log is written every so many seconds; weights that are averaged are looked at right
after an average, when they are best.
"""

import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from palaver.baselines.method import halves
from palaver.data import load
from palaver.data.inputs import to_float
from palaver.exchange import protocol
from palaver.exchange.build import make_collective, make_shards
from palaver.peers.build import make_material
from palaver.peers.serve import make_site, rehearse, run
from palaver.peers.settings import SiteSettings
from palaver.types import NO_LABEL, Batch

SITES = 10
ROWS = 1000
"""Test examples that a site is looked at with; validation examples play no part."""

_PORT = 29500
"""Where the first machine gathers those that average."""


@dataclass(frozen=True)
class Run:
    """One run of ten sites, as all of them read it."""

    folder: str
    addresses: tuple[str, ...]
    """Of the machines, in order of their ranks."""
    method: str
    """``reference``, ``own``, ``all-reduce``, ``fedavg`` or ``diloco``."""
    collective: dict[str, Any] = field(default_factory=dict)
    """Settings of the collective."""
    period: int = 1
    """Rounds between two averages."""
    rate: float = 0.0
    """Bytes a second that a peer's packets take at most; 0: no limit."""
    look_every: float = 1.0
    """Seconds between looks at a site at least."""

    def site(self, rank: int) -> SiteSettings:
        """Settings of a site."""
        names = [f"site-{place}" for place in range(len(self.addresses))]
        ends = dict(zip(names, (f"tcp/{address}:7447" for address in self.addresses), strict=True))
        return SiteSettings(
            name=names[rank], peers=ends, collective={"name": "thin"} | self.collective, insecure=True, rate=self.rate
        )

    def path(self, rank: int, what: str) -> Path:
        """A file of this run."""
        return Path(self.folder) / f"{rank}.{what}"


def record(classes: int) -> np.dtype[Any]:
    """A line of a log: seconds since the start, rounds, bytes sent and received with all headers, logits."""
    numbers = [(name, "<i8") for name in ("round", "sent", "received")]
    return np.dtype([("seconds", "<f8"), *numbers, ("logits", "<f2", (ROWS, classes))])


class Log:
    """What is known of a site over time.

    Args:
        run: what is run.
        rank: of the site.
        classes: C.

    """

    def __init__(self, run: Run, rank: int, classes: int) -> None:
        self._run, self._rank, self._dtype = run, rank, record(classes)
        self._file = run.path(rank, "log").open("wb")
        self._next, self._start = 0.0, 0.0
        self._before = _bytes()

    def compiled(self) -> None:
        """Says that all programs are there."""
        self._run.path(self._rank, "compiled").touch()

    def wait(self) -> None:
        """Says that the site is ready, and waits until all are."""
        self._run.path(self._rank, "ready").touch()
        go = Path(self._run.folder) / "go"
        while not go.exists():
            time.sleep(0.05)
        self._start = float(go.read_text())
        time.sleep(max(0.0, self._start - time.monotonic()))
        self._before = _bytes()

    def look(self, step: int, logits: Callable[[], np.ndarray]) -> None:
        """Writes a line, if the last one is long enough ago."""
        now = time.monotonic() - self._start
        if now < self._next:
            return
        self._next = now + self._run.look_every
        sent, received = (after - before for after, before in zip(_bytes(), self._before, strict=True))
        self._file.write(np.array((now, step, sent, received, logits()), self._dtype).tobytes())
        self._file.flush()


def _looked_at(run: Run, rank: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Inputs that sites are looked at with; their labels are put beside the logs."""
    if rank == 0:
        np.save(run.path(0, "labels.npy"), y[:ROWS])
    return x[:ROWS]


def _bytes() -> tuple[int, int]:
    """Bytes sent and received by this machine's network card."""
    at = Path("/sys/class/net/eth0/statistics")
    return int((at / "tx_bytes").read_text()), int((at / "rx_bytes").read_text())


def talk(of: Run, rank: int, root: Path | None) -> None:
    """A peer, as ``palaver peer`` runs it; compiled before the start, as all methods are."""
    settings = of.site(rank)
    material = make_material(settings, root)
    for peer in (material.peer, material.twin):
        rehearse(peer)
    x = _looked_at(of, rank, *material.test)
    peer, log = material.peer, Log(of, rank, material.peer.agreement.classes)
    peer.learner.predict(x)
    log.compiled()
    site = make_site(settings, material)
    log.wait()
    run(site, lambda: False, lambda now: log.look(peer.step, lambda: peer.learner.predict(x).logits))


class Trainer(NamedTuple):
    """A site's part of what averages, compiled."""

    state: Any
    """The same at every site before the first step."""
    classes: int
    sizes: np.ndarray
    """Examples of all sites."""
    gradient: Callable[[Any], Any]
    """``gradient(state)``: of the next minibatch."""
    step: Callable[[Any, Any], Any]
    predict: Callable[[Any], Any]
    """``predict(state)``: logits of what sites are looked at with."""


def _trainer(of: Run, rank: int, root: Path | None) -> Trainer:
    settings = of.site(rank).agreed().settings
    data = settings.load(lambda name: load(name, root))
    group = make_collective(settings, data)
    node = group.groups[0][0]
    gradients, update = halves(node)
    shards = make_shards(settings, data, [0])
    rows = np.asarray(shards.index[0, rank, : shards.size[0, rank]])
    x, y = data.x_train[rows], data.y_train[rows].astype(np.int32)
    key = protocol.node_key(jax.random.key(1), jnp.int32(rank))
    nothing = _nothing(node, x[: settings.batch_size])
    seen = _looked_at(of, rank, data.x_test, data.y_test)
    batches = _batches(jax.jit(protocol.local_batch, static_argnums=0), group.protocol, key, len(y))

    @jax.jit
    def gradient(state: Any, x: Any, y: Any) -> Any:
        return gradients(key, state, Batch(to_float(x), y), nothing, jnp.bool_(False))[0]

    def next_gradient(state: Any) -> Any:
        places = next(batches)
        return gradient(state, x[places], y[places])

    step = jax.jit(lambda state, found: update(state, found, jnp.bool_(False)))
    predict = jax.jit(lambda state: node.predict(state, to_float(seen)).logits)
    state = node.init(jax.random.key(0))
    step(state, gradient(state, x[: settings.batch_size], y[: settings.batch_size]))
    predict(state)
    return Trainer(state, data.classes, np.asarray(shards.size[0], float), next_gradient, step, predict)


def average(of: Run, rank: int, root: Path | None) -> None:
    """A site that takes part in all-reduce of gradients in every step, FedAvg or DiLoCo, by PyTorch's gloo."""
    import torch.distributed as dist

    site = _trainer(of, rank, root)
    log = Log(of, rank, site.classes)
    log.compiled()
    dist.init_process_group(
        "gloo",
        init_method=f"tcp://{of.addresses[0]}:{_PORT}",
        rank=rank,
        world_size=len(of.addresses),
        timeout=timedelta(hours=6),
    )
    _mean(np.zeros(2, np.float32), 1.0)
    log.wait()
    _train(of, rank, site, log)


def _train(of: Run, rank: int, site: Trainer, log: Log) -> None:
    """Steps and averages without end."""
    state, sites, share = site.state, len(site.sizes), site.sizes[rank] / site.sizes.sum()
    shared, back = ravel_pytree(state.params)
    outer = optax.sgd(0.7, momentum=0.9, nesterov=True) if of.method == "diloco" else None
    moments = outer.init(shared) if outer else None
    log.look(0, lambda: site.predict(state))
    for number in itertools.count(1):
        found = site.gradient(state)
        if of.method == "all-reduce":
            flat, tree = ravel_pytree(found.grads)
            found = found._replace(grads=tree(jnp.asarray(_mean(np.array(flat), 1 / sites))))
        state = site.step(state, found)
        if number % of.period:
            continue
        if of.method == "fedavg":
            mean = _mean(np.array(ravel_pytree(state.params)[0]), share)
            state = state._replace(params=back(jnp.asarray(mean)))
        elif outer:
            mean = _mean(np.array(ravel_pytree(state.params)[0]), 1 / sites)
            moved, moments = outer.update(shared - mean, moments, shared)
            shared = optax.apply_updates(shared, moved)
            state = state._replace(params=back(shared))
        log.look(number, lambda state=state: site.predict(state))


def _mean(of: np.ndarray, weight: float) -> np.ndarray:
    """``Σ_i w_i x_i`` over all sites, by gloo's ring."""
    import torch
    import torch.distributed as dist

    total = torch.from_numpy(of * np.float32(weight))
    dist.all_reduce(total)
    return total.numpy()


def _batches(local: Callable[..., Any], how: Any, key: Any, size: int) -> Iterator[np.ndarray]:
    position = 0
    while True:
        yield np.asarray(local(how, key, np.int32(position), np.int32(size)))
        position += how.batch_size


def _nothing(node: Any, x: np.ndarray) -> Any:
    """In place of what was received."""
    labels = np.full(len(x), NO_LABEL, np.int32)
    shapes = node.payload(jax.eval_shape(to_float, x), labels)
    received = shapes if node.decode is None else jax.eval_shape(node.decode, shapes)
    return jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), received)


def write(of: Run) -> Path:
    """Puts a run where its sites read it."""
    path = Path(of.folder) / "run.json"
    path.write_text(json.dumps(asdict(of)))
    return path


if __name__ == "__main__":
    told = json.loads(Path(sys.argv[1]).read_text())
    found = Run(**told | {"addresses": tuple(told["addresses"])})
    (talk if found.method in ("reference", "own") else average)(found, int(sys.argv[2]), None)
