"""The pulse of a flow: silence that is allowed, waits that a drain ends, failures that the engine does not hand on."""

import pytest

from operators.pulse import DRAIN_S, EPOCHS_ALIVE, Pulse, Unfinished


class Clock:
    """Monotonic seconds as told."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pulse(clock: Clock) -> Pulse:
    return Pulse(clock, epoch_s=1.0)


def test_silence_that_was_announced_is_no_death(pulse: Pulse, clock: Clock) -> None:
    pulse.beat(silent=60.0)
    clock.now += 60.0 + EPOCHS_ALIVE - 0.1
    assert pulse.alive
    clock.now += 0.2
    assert not pulse.alive


def test_while_an_epoch_is_closed_with_others_silence_may_be_theirs(pulse: Pulse, clock: Clock) -> None:
    """One of them waits in an output; the engine of the others turns, and calls nobody."""
    pulse.closes()
    clock.now += 600.0
    assert not pulse.alive
    pulse.shared = True
    assert pulse.alive
    clock.now += 340.0
    assert not pulse.alive, "whoever waits for a broker has given up by now"
    pulse.durable()
    pulse.beat()
    clock.now += EPOCHS_ALIVE + 1.0
    assert not pulse.alive


def test_a_wait_has_no_end_of_its_own_but_a_drain_gives_it_one(pulse: Pulse, clock: Clock) -> None:
    for _ in range(10):
        clock.now += 100.0
        pulse.waits()
    assert pulse.alive
    pulse.stop.set()
    pulse.waits()
    clock.now += DRAIN_S - 0.1
    pulse.waits()
    clock.now += 0.2
    with pytest.raises(Unfinished, match="the next start goes on"):
        pulse.waits()


def test_the_first_failure_is_noted_and_the_end_of_a_lane_is_none(pulse: Pulse) -> None:
    def fails(error: BaseException) -> None:
        raise error

    with pytest.raises(StopIteration):
        pulse.noted(fails, StopIteration())
    assert pulse.failed is None
    for error in (ValueError("first"), KeyError("second")):
        with pytest.raises(type(error)):
            pulse.noted(fails, error)
    assert str(pulse.failed) == "first"
    assert pulse.noted(sum, [1, 2]) == 3
