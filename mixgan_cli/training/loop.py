"""THE loop. One iteration is every phase in turn; what is due between two is the bookkeeper's.

Nothing is read from the device inside an iteration, and nothing random is kept between two: iteration s draws from the
random state that (seed, s) names, so a resumed run goes on exactly as if it had never stopped.
"""

from __future__ import annotations

from contextlib import nullcontext

from mixgan_cli import ranks
from mixgan_cli.config import Training
from mixgan_cli.hardware import Compute
from mixgan_cli.interrupt import Interrupted, Interruptions
from mixgan_cli.training.bookkeeper import Bookkeeper
from mixgan_cli.training.capture import recorded
from mixgan_cli.training.checkpoint import State
from mixgan_cli.training.iteration import iterate, moving

ASK_EVERY = 10
"""Iterations after which several ranks ask each other whether to end: to ask is to wait for the slowest."""
EARLY = 1
"""What a rank says that wants to end early for an alarm; else the number of the signal it received, or 0."""


def train(
    training: Training,
    seed: int,
    state: State,
    compute: Compute,
    bookkeeper: Bookkeeper,
    interruptions: Interruptions,
) -> None:
    """Train from wherever `state` is to `training.nimg` images, or to an alarm that ends the run.

    Raises:
        TrainingStopped: losses or gradients stay not finite.
        Interrupted: a signal said to end; the state is saved, and the same run goes on from there.
    """
    progress, move = state.progress, recorded(moving(state), compute)
    # the other ranks end where all have agreed to; the main one also where it draws or measures, by itself
    others = nullcontext() if ranks.main() else interruptions.held()
    try:
        with others:
            while True:
                bookkeeper.attend(state, interruptions)
                if progress.nimg >= training.total_nimg or progress.ended:
                    return
                with interruptions.held():
                    iterate(state, seed, move)
                if ranks.count() == 1 or progress.step % ASK_EVERY == 0:
                    wanted = ranks.highest(interruptions.received or (EARLY if bookkeeper.watch.ends(progress) else 0))
                    progress.ended = wanted == EARLY
                    if wanted > EARLY:
                        raise Interrupted(wanted)
    except Interrupted as interrupted:
        if not interrupted.at_once:
            with interruptions.held():
                bookkeeper.save(state)
        raise
    except ranks.PeerLost as lost:
        if interruptions.received:  # so was the other one, which did not have to wait: it was drawing or measuring
            raise Interrupted(interruptions.received, at_once=True) from lost
        raise
