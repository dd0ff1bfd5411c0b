"""A discrete language between agents (thesis ch. 4)."""

from palaver.language import estimators, generators, information, levels, metrics, observation
from palaver.language.conversation import Group, Language, Spoken, Terms, conversation

__all__ = [
    "Group",
    "Language",
    "Spoken",
    "Terms",
    "conversation",
    "estimators",
    "generators",
    "information",
    "levels",
    "metrics",
    "observation",
]
