"""The settings of one collective."""

from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple

from pydantic import Field
from tyro.conf import UseAppendAction

from palaver.baselines import METHODS
from palaver.channels import CHANNELS, OF_CLASSES
from palaver.data import SPLITS, Dataset
from palaver.exchange.description import COMBINE
from palaver.exchange.inbox import OVERFLOW
from palaver.exchange.liars import LIES
from palaver.gate import GATES
from palaver.models import AUTOENCODERS, MODELS, NORMS
from palaver.objectives import OBJECTIVES
from palaver.optimizers import OPTIMIZERS
from palaver.studies import fields
from palaver.studies.settings import GraphSettings, StudySettings, settings
from palaver.types import PalaverError

_LINEAR = "none of it to a model without hidden layers"
_OF_CLASSES = f"one of {', '.join(sorted(OF_CLASSES))} with combine mean or least_change, which take probabilities"


_AWAY = "asleep", "slow", "vanish"

_REMEMBERS = "combine is mean, so that nodes remember what each other say of the reference set"


class Kind(NamedTuple):
    """Nodes of one kind in a collective of several."""

    model: str
    widths: tuple[int, ...]
    count: int


def kind(text: str) -> Kind:
    """One entry of the setting ``group``.

    >>> kind("cnn:16-32:4")
    Kind(model='cnn', widths=(16, 32), count=4)

    Args:
        text: ``model:count`` or ``model:widths:count``, widths with ``-`` between them.

    Raises:
        PalaverError: anything else.

    """
    model, *widths, many = text.split(":") if ":" in text else (text, "", "")
    numbers = [*(widths[0].split("-") if widths else []), many]
    if (
        model not in MODELS
        or len(widths) > 1
        or not all(each.isdecimal() and 0 < int(each) <= 10**6 for each in numbers)
    ):
        raise PalaverError(
            f"group has {text!r}: give model:count or model:widths:count, such as mlp:6 or cnn:16-32-64:4, "
            f"with a model of {', '.join(MODELS)}"
        )
    return Kind(model, tuple(map(int, numbers[:-1])), int(many))


@settings
class CollectiveSettings(StudySettings, GraphSettings):
    """One collective: its data, nodes, topology, channel and training. Defaults are the thesis's where it has one."""

    fraction: fields.PositiveFraction = 1.0
    """Share of the training set, without the reference set, that the collective owns, in (0, 1]."""
    split: Annotated[str, fields.OneOf(SPLITS)] = "iid"
    """How the training set is divided among the nodes: at random, with label skew, sorted by class, or one half to the
    first node."""
    skew: fields.PositiveDouble = 0.5
    """Dirichlet concentration alpha of the label skew, above 0; smaller is more skewed."""
    labelled: fields.PositiveFraction = 1.0
    """Share of every node's examples whose labels it knows, in (0, 1]."""
    reference: fields.FractionBelowOne = 0.0
    """Share of the training set that becomes a reference set, in [0, 1): all nodes have its inputs and talk about them
    alone, their own examples stay where they are; 0: none."""
    reference_data: str = ""
    """Another data set of the same shape whose training inputs are the reference set."""
    combine: Annotated[str, fields.OneOf(COMBINE)] = "latest"
    """With a reference set, what a node learns: a packet as it is, or the mean of what it heard about the same rows."""
    decay: fields.Fraction = 0.8
    """With combine mean, the factor of what was heard before, in [0, 1]."""
    weighted: bool = False
    """With combine mean, weigh what is heard by the sender's confidence."""
    least_change: fields.Fraction = 0.0
    """With a reference set, be silent where outputs changed less than this since they were last sent (total variation,
    in [0, 1])."""
    nodes: fields.Count = 10
    """Number of nodes N."""
    group: UseAppendAction[tuple[str, ...]] = ()
    """Nodes of one kind among others, model:count or model:widths:count, such as mlp:6 or cnn:16-32-64:4, in place of
    nodes, model and widths; may be given several times (in TOML: a list)."""
    objective: Annotated[str, fields.OneOf(OBJECTIVES)] = "labels"
    """A node's local objective: labels (supervised), or without labels vae or bigan (evaluated by a linear probe)."""
    model: Annotated[str, fields.OneOf(MODELS, "auto")] = "auto"
    """Network of every node (vae, bigan: of the encoder); auto: cnn for images of 32 x 32 and more, mlp otherwise."""
    widths: fields.Widths = ()
    """Hidden widths (mlp) or channels (cnn); empty: mlp 32 32 (vae, bigan: 256 128), cnn 32 64 128."""
    latent: fields.Count = 32
    """Latent dimension (vae, bigan)."""
    beta: fields.NotNegative = 1.0
    """Weight of a VAE's KL term, 0 or more."""
    norm: Annotated[str, fields.OneOf(NORMS)] = "batch"
    """Normalisation after each convolution of a cnn."""
    dropout: fields.FractionBelowOne = 0.0
    """Dropout rate after every hidden layer, in [0, 1)."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Type of the operands of the networks' products; bfloat16: mixed precision, all other numbers are float32."""
    method: Annotated[str, fields.OneOf(METHODS, "exchange")] = "exchange"
    """How nodes train together: by exchanging packets, or a baseline to compare that with, which averages weights or
    gradients, distils predictions, or shares data."""
    period: fields.CountOrZero = 0
    """Of a baseline: rounds between two averages, or the length of a cycle; 0: the method's own."""
    digest: fields.CountOrZero = 0
    """Of fedmd, ds-fl and scarlet: rounds of a cycle on the reference set; 0: a fifth, of fedmd half of it."""
    cache: fields.Count = 5
    """Of scarlet: cycles for which nodes remember what they agreed on, and do not send it again."""
    keep_moments: bool = False
    """Of fedavg: nodes keep Adam's moments at an average; otherwise their optimisers begin anew."""
    peer_weight: fields.Positive = 1.0
    """Of codistillation and fd: weight of what peers predict."""
    outer_rate: fields.Positive = 0.7
    """Of diloco: learning rate of the outer Nesterov step."""
    outer_momentum: fields.FractionBelowOne = 0.9
    """Of diloco: its momentum."""
    channel: Annotated[str, fields.OneOf(CHANNELS)] = "labels"
    """What nodes send each other; without labels: features (codes) or gaussian (a VAE's code distributions)."""
    temperature: fields.Positive = 1.0
    """Temperature tau of received logits, above 0; below 1 sharpens them."""
    payload_bits: Literal[32, 16, 8, 7, 6, 5, 4, 3, 2, 1, 0] = 32
    """Bits of every class score that is sent: 32, 16, or 8 to 1 for probabilities; with top also 0, class ids alone."""
    top: fields.CountOrZero = 0
    """How many class scores are sent, the largest, fewer than there are classes; 0: all."""
    corrected: bool = False
    """With own examples, whether logits that are largest for another class than the label are corrected before they are
    sent: the two change places."""
    mix: fields.Fraction = 0.5
    """Weight alpha of the true label in labels+logits, in [0, 1]."""
    feature_weight: fields.Positive = 1.0
    """Scaling factor of the features and gaussian objectives, above 0."""
    projection: bool = False
    """Put a learned linear map between a node's features and those it receives."""
    p_consume: fields.Fraction = 0.5
    """Probability per round that a node reads its inbox."""
    p_broadcast: Annotated[float, Field(ge=-1, le=1)] = -1.0
    """Probability per round that a node broadcasts; -1: as many packets arrive as are read."""
    inbox: fields.Count = 16
    """Packets an inbox holds."""
    overflow: Annotated[str, fields.OneOf(OVERFLOW)] = "drop_oldest"
    """Which packet a full inbox drops."""
    rebroadcast: bool = True
    """Whether a consumed batch may be broadcast again."""
    burn_in: fields.CountOrZero = 0
    """Rounds before any node broadcasts; a probe's best evaluation comes after them. Of codistillation: before nodes
    learn from each other, 0: a third of the rounds."""
    half_life: fields.NotNegative = 0.0
    """Rounds in which the probability of broadcasting falls to half; 0: it stays the same."""
    asleep: fields.FractionBelowOne = 0.0
    """Probability that a node sleeps through a stretch of rounds, in [0, 1)."""
    asleep_rounds: fields.Count = 1
    """Rounds in a stretch of sleep."""
    slow: fields.CountOrZero = 0
    """How many nodes are slow."""
    slow_every: fields.Count = 2
    """A slow node takes part in one round of so many."""
    vanish: fields.CountOrZero = 0
    """How many nodes vanish for good."""
    vanish_at: fields.CountOrZero = 0
    """The round in which they vanish."""
    liars: fields.CountOrZero = 0
    """With combine mean, how many nodes lie about the reference set; accuracies are those of the others."""
    lie: Annotated[str, fields.OneOf(LIES)] = "flipped"
    """What liars say: flipped (the class that they find least likely), constant (all the same class, always), random (a
    class drawn anew for every row), or mimicry (the class that they find second most likely)."""
    gate: Annotated[str, fields.OneOf(GATES)] = "none"
    """With combine mean, whom nodes believe: none (everybody), or twin (those who agree with a second model that learns
    from the node's own batches alone)."""
    optimizer: Annotated[str, fields.OneOf(OPTIMIZERS)] = "adam"
    """What takes a node's steps: Adam, or plain stochastic gradient descent (sgd)."""
    momentum: fields.FractionBelowOne = 0.0
    """Of sgd, in [0, 1)."""
    weight_decay: fields.NotNegative = 0.0
    """Half of it is the factor of the squared norm of a node's weights, 0 or more; with Adam as in AdamW."""
    l1: fields.NotNegative = 0.0
    """Factor of the sum of the magnitudes of a node's weights, 0 or more, beside Adam's moments as in AdamW."""
    patience: fields.CountOrZero = 0
    """Evaluations without a better validation accuracy after which a node stops training, with the parameters of its
    best one (early stopping); 0: never."""
    adam_beta1: fields.FractionBelowOne = 0.9
    """Adam's beta1, in [0, 1); DCGAN recommends 0.5 for adversarial training."""
    rounds: fields.CountOrZero = 1000
    """Rounds; in each, every node takes one training step. 0, without labels: untrained nodes are evaluated."""
    eval_every: fields.Count = 50
    """Rounds between evaluations; of a baseline that averages or has a cycle, up to the next multiple of its period."""
    eval_examples: fields.CountOrZero = 0
    """Validation examples used before the reported round; 0: all."""
    report_round: fields.CountOrZero = 0
    """Round whose accuracies the summary gives, while training goes on to the last; 0: the last."""
    target: Annotated[float, Field(gt=0, lt=1)] = 0.85
    """Accuracy, in (0, 1); the first round that reaches it is reported."""
    calibrate: bool = False
    """Also report test accuracies where only some nodes answer, by every rule, and all test accuracies with one
    temperature per node, fitted on validation data."""

    def __post_init__(self) -> None:
        """Raises ``PalaverError`` for values that do not go together; with ``group``, counts the nodes."""
        if self.group:
            counted = sum(each.count for each in self.kinds)
            if self.nodes not in (10, counted) or self.model != "auto" or self.widths:
                raise PalaverError(f"group is {' '.join(self.group)}: leave out nodes, model and widths, which it says")
            object.__setattr__(self, "nodes", counted)
        reported, labels = self.report_round or self.rounds, self.objective not in AUTOENCODERS
        of_objective = f"for objective {self.objective}"
        codes = not labels and self.channel != "none"
        channels = [name for name in CHANNELS if self._fits(name)]
        built = ["auto", *(name for name, network in MODELS.items() if network.autoencoders)]
        linear = all(each.model in MODELS and not MODELS[each.model].hidden for each in self.kinds)
        rules: list[tuple[str, bool, str]] = [
            ("dropout", labels or self.dropout == 0, f"0 {of_objective}, which has no dropout"),
            ("eval_examples", labels or self.eval_examples == 0, f"0 {of_objective}, whose probes need all"),
            ("beta", self.objective == "vae" or self.beta == 1, f"1 {of_objective}, which has no beta"),
            ("calibrate", labels or not self.calibrate, f"False {of_objective}: probes are not calibrated"),
            ("p_broadcast", self.p_broadcast == -1 or self.p_broadcast >= 0, "-1 or a probability in [0, 1]"),
            ("burn_in", self.burn_in < max(reported, 1), f"0 to {max(reported, 1) - 1}, before round {reported}"),
            ("inbox", self.nodes * (self.inbox + 1) <= fields.MOST, f"at most {fields.MOST // self.nodes - 1}"),
            ("rounds", self.rounds >= labels, f"at least 1 {of_objective}"),
            ("report_round", self.report_round <= self.rounds, f"0 to rounds ({self.rounds})"),
            ("model", labels or self.model in built, f"one of {', '.join(built)} {of_objective}"),
            ("channel", self.channel in channels, f"one of {', '.join(channels)} {of_objective}"),
            *self._rules_of_method(),
            ("reference", not (self.reference and self.reference_data), "0 with reference_data"),
            ("combine", self.refers or self.combine == "latest", "latest without a reference set"),
            ("weighted", self.combine == "mean" or not self.weighted, "False unless combine is mean"),
            ("least_change", self.refers or self.least_change == 0, "0 without a reference set"),
            ("gate", self.combine == "mean" or self.gate == "none", f"none unless {_REMEMBERS}"),
            ("liars", self.combine == "mean" or self.liars == 0, f"0 unless {_REMEMBERS}"),
            ("liars", self.liars < self.nodes, f"0 to {self.nodes - 1}, so that a node is honest"),
            ("widths", all(MODELS[k.model].hidden or not k.widths for k in self.kinds if k.model in MODELS), _LINEAR),
            ("dropout", not linear or self.dropout == 0, _LINEAR),
            (
                "channel",
                self.channel in (*OF_CLASSES, "none") or not (self.combine == "mean" or self.least_change),
                _OF_CLASSES,
            ),
            ("patience", labels or self.patience == 0, f"0 {of_objective}, whose probes are kept at their best"),
            ("labelled", labels or self.labelled == 1, f"1 {of_objective}, which uses no labels"),
            ("slow", self.slow <= self.nodes, f"0 to nodes ({self.nodes})"),
            ("vanish", self.vanish < self.nodes, f"0 to {self.nodes - 1}, so that a node is left"),
            ("vanish_at", self.vanish > 0 or self.vanish_at == 0, "0, or vanish of at least 1 too"),
            ("payload_bits", self.payload_bits > 0 or self.top > 0, "32, 16, or 8 to 1, or top of at least 1 too"),
            ("projection", codes or not self.projection, "False, or a vae or bigan that sends features or gaussian"),
        ]
        for name, fine, allowed in rules:
            if not fine:
                raise PalaverError(f"{name} is {getattr(self, name)}: give {allowed}")
        self.check_graph(self.nodes)

    def _rules_of_method(self) -> list[tuple[str, bool, str]]:
        """What a baseline cannot do."""
        if self.method == "exchange":
            return []
        needed = [("labelled", self.labelled == 1, "1"), *((name, not getattr(self, name), "0") for name in _AWAY)]
        needed.append(("patience", self.patience == 0, "0"))
        all_there = [(name, fine, f"{value} for method {self.method}, which needs all") for name, fine, value in needed]
        period, reported = METHODS[self.method](self).period, self.report_round or self.rounds
        whole = reported % period == 0
        multiple = f"a multiple of the period ({period}), so that nodes are evaluated at the end of one"
        return [("objective", self.objective not in AUTOENCODERS, "labels"), ("rounds", whole, multiple), *all_there]

    def _fits(self, channel: str) -> bool:
        """Whether nodes with this objective have what the channel sends."""
        if channel == "gaussian":
            return self.objective == "vae"
        return self.objective not in AUTOENCODERS or channel not in OF_CLASSES

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of nodes, one unless ``group`` gives several."""
        return tuple(map(kind, self.group)) or (Kind(self.model, self.widths, self.nodes),)

    @property
    def refers(self) -> bool:
        """Whether there is a reference set, so that packets are about it."""
        return self.reference > 0 or bool(self.reference_data)

    @property
    def silent(self) -> bool:
        """Whether no packet is ever sent."""
        return self.channel == "none" or self.nodes == 1 or self.method != "exchange"

    def load(self, by_name: Callable[[str], Dataset]) -> Dataset:
        """The data set, cut to the examples that are used, with the other one that is its reference set.

        Args:
            by_name: loads a data set by its name, as ``palaver.data.load``.

        Returns:
            The data set.

        Raises:
            PalaverError: a reference set of another shape or type, or as ``StudySettings.load``.

        """
        data = StudySettings.load(self, by_name)
        if not self.reference_data:
            return data
        other = by_name(self.reference_data)
        if (other.shape, other.x_train.dtype) != (data.shape, data.x_train.dtype):
            raise PalaverError(
                f"reference_data {other.name} has inputs of shape {other.shape} and type {other.x_train.dtype}, "
                f"{data.name} of {data.shape} and {data.x_train.dtype}: give one with the same"
            )
        return data._replace(reference=other.x_train)
