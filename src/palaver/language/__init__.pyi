from . import estimators, generators, information, levels, measures, observation
from .game import GameState, LanguageGame, LossTerms, Messages, language_game

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
    "measures",
    "observation",
]
