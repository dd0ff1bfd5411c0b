from .questions import Decided, Voice, ask

__all__ = ["Decided", "Voice", "ask"]
