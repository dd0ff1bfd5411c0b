"""(h) The thesis's two agents (Table 4.1, ``both``) against the same in PyTorch eager."""

from itertools import pairwise

import jax
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.measure import alternate, real, say
from palaver.experiments.table_4_1 import THESIS
from palaver.language.settings import make_language
from palaver.language.train import language_training
from palaver.studies.seeds import seed_keys

STEPS, THEIRS = 200, 60
SETTINGS = THESIS["both"]
L, V, B, H = SETTINGS.length, SETTINGS.vocabulary, SETTINGS.batch_size, SETTINGS.hidden[-1]

data = real("mnist", (28, 28))


class Side:
    """Games of two agents, some seeds at once."""

    def __init__(self, seeds: int):
        game = make_language(SETTINGS, data)
        self.training = language_training(game, data.x_train, data.y_train, batch_size=B)
        self.state = self.training.init(seed_keys(range(seeds)))

    def __call__(self) -> None:
        self.state, _ = jax.block_until_ready(self.training.advance(self.state, STEPS))


class Agent(nn.Module):
    """Generator, discriminator and the two online probes of one agent."""

    def __init__(self):
        super().__init__()
        widths = [784, *SETTINGS.hidden]
        layers = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.ReLU())]
        self.trunk, self.heads = nn.Sequential(*layers), nn.Linear(H, L * V)
        hidden = SETTINGS.critic_hidden
        self.critic = nn.Sequential(nn.Linear(784 + L * V, hidden), nn.ReLU(), nn.Linear(hidden, 1))
        self.probe, self.message_probe = nn.Linear(H, 10), nn.Linear(L * V, 10)
        self.register_buffer("mask", torch.rand(784) < SETTINGS.noise)


agents = [Agent() for _ in range(2)]
optimizer = torch.optim.Adam([p for agent in agents for p in agent.parameters()])
x_train = torch.from_numpy(data.x_train.reshape(len(data.x_train), -1))
y_train = torch.from_numpy(data.y_train).long()


def torch_steps() -> None:
    """The same step, eagerly: views, messages, both objectives, both probes, Adam."""
    order = torch.randperm(len(x_train))
    for start in range(0, THEIRS * B, B):
        rows = order[start : start + B]
        x, y = x_train[rows].float() / 255, y_train[rows]
        messages, loss = [], 0.0
        for agent in agents:
            seen = torch.where(agent.mask, 1 - x, x)
            features = agent.trunk(seen)
            logits = agent.heads(features).view(B, L, V)
            symbols = F.gumbel_softmax(logits, tau=SETTINGS.temperature)
            flat = symbols.view(B, L * V)
            pairs = torch.cat([torch.cat([seen, flat], 1), torch.cat([seen.roll(1, 0), flat], 1)])
            positives, negatives = agent.critic(pairs)[:, 0].split(B)
            loss = loss - (F.logsigmoid(positives) + F.logsigmoid(-negatives)).mean()
            hard = F.one_hot(logits.argmax(-1), V).float().view(B, L * V)
            loss = loss + F.cross_entropy(agent.probe(features.detach()), y)
            loss = loss + F.cross_entropy(agent.message_probe(hard), y)
            messages.append(symbols)
        a, b = messages
        loss = loss - SETTINGS.weight * (a * b.clamp_min(1e-38).log() + b * a.clamp_min(1e-38).log()).sum((1, 2)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


medians = alternate({"one": Side(1), "five": Side(5), "torch": torch_steps})
per_second = THEIRS / medians["torch"]
say(
    language_two_agents=(STEPS / medians["one"], per_second, "steps/s"),
    language_two_agents_five_at_once=(5 * STEPS / medians["five"], per_second, "steps/s"),
)
