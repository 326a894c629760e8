"""What the engine promises of the lanes of a process, and the source relies on; pinned to its release."""

from datetime import UTC, datetime, timedelta

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main
from bytewax.testing import TestingSink

LANES = [f"lane-{number:02d}" for number in range(3)]
CALLS = 300


class Lane(StatefulSourcePartition):
    def __init__(self, name, log):
        self._name, self._log, self._calls = name, log, 0
        log.append(("built", name))

    def next_batch(self):
        self._log.append(("called", self._name))
        self._calls += 1
        if self._calls == CALLS:
            raise StopIteration
        return [("0", self._calls)]

    def next_awake(self):
        return datetime(2000, 1, 1, tzinfo=UTC)

    def snapshot(self):
        self._log.append(("closed", self._name))
        return self._calls

    def close(self):
        self._log.append(("ended", self._name))


class Lanes(FixedPartitionedSource):
    def __init__(self, log):
        self._log = log

    def list_parts(self):
        return LANES

    def build_part(self, step_id, for_part, resume_state):
        return Lane(for_part, self._log)


@pytest.mark.parametrize("epoch_us", [0, 100, 1_000])
@pytest.mark.parametrize("resumed", [False, True])
def test_a_lane_is_called_again_only_when_all_have_closed_their_epoch(tmp_path, epoch_us, resumed):
    init_db_dir(tmp_path, 1)
    for _ in range(1 + resumed):
        log = []
        flow = Dataflow("lanes")
        op.output("out", op.input("in", flow, Lanes(log)), TestingSink([]))
        cli_main(flow, epoch_interval=timedelta(microseconds=epoch_us), recovery_config=RecoveryConfig(str(tmp_path)))
    assert log[: len(LANES)] == [("built", name) for name in LANES], "all are there before the first is called"
    closed, epochs = set(), 0
    for what, name in log:
        if what == "closed":
            assert name not in closed
            closed.add(name)
        elif what == "called" and name in closed:
            assert closed == set(LANES), f"{name} is called while others are still in its last epoch"
            closed, epochs = set(), epochs + 1
    assert closed == set(LANES), "each ends with a snapshot"
    assert epochs > (0 if epoch_us else CALLS // 2)
