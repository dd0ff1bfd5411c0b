"""A discrete language between agents (thesis ch. 4)."""

from palaver.language import estimators, generators, information, levels, metrics, observation
from palaver.language.game import GameState, LanguageGame, LossTerms, Messages, language_game

__all__ = [
    "GameState",
    "LanguageGame",
    "LossTerms",
    "Messages",
    "estimators",
    "generators",
    "information",
    "language_game",
    "levels",
    "metrics",
    "observation",
]
