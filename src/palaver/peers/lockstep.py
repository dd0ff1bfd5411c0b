"""Peers on a virtual clock: one round of everybody after the other, and packets that arrive in between.

What peers do here they do on a real network; only when packets arrive is another matter there.
"""

from collections.abc import Callable, Sequence

from palaver.peers.core import Peer, Turn


def play(
    peers: Sequence[Peer],
    rounds: int,
    *,
    collective: bytes,
    awake: Callable[[int, int], bool] = lambda peer, step: True,
    active: Callable[[int, int], bool] = lambda peer, step: True,
) -> list[list[Turn | None]]:
    """Plays rounds of peers in one process; every packet arrives after the round, in the order of the senders' ids.

    Args:
        peers: in the order of their ids.
        rounds: how many.
        collective: digest of what they agreed on.
        awake: whether a peer can be reached in a round.
        active: whether a peer takes part in a round.

    Returns:
        What each peer did in each round; ``None`` where it took no part in it.

    """
    played = list[list[Turn | None]]()
    for step in range(peers[0].step, peers[0].step + rounds):
        reached = {peer.me for peer in peers if awake(peer.me, step)}
        turns = list[Turn | None]()
        for peer in peers:
            if active(peer.me, step):
                turns.append(peer.turn(reached))
            else:
                peer.skip()
                turns.append(None)
        for sender, turn in zip(peers, turns, strict=True):
            for packet in turn.outgoing if turn else ():
                peers[packet.to].receive(sender.me, packet.message(collective, epoch=0, seq=0))
        played.append(turns)
    return played
