"""The tables of a flow's state, as its cores declare them: there is no other list to keep in step.

Printed for every flow in `tests/golden/tables.txt`: a changed version there is a changed state on disk.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from flows.deployment import Deployment
from flows.ports import chains
from operators.state.memory import MemoryStore
from operators.state.store import Tables
from operators.state.versions import Reads
from schemas.items import Parcel


def declared(deployment: Deployment, flow: str, shards: int) -> Reads:
    """Versions that this program reads, by step id and table; each core is built once over a state of nothing.

    Which tables there are hangs on the program, and on nothing in the deployment.
    """
    apart = replace(deployment, doors=[], deciders=[])  # what the metrics look at are the cores of the flow
    found = {}
    for step_id, (_, shards_of_step) in chains(flow, shards).items():
        tables = Tables(MemoryStore())
        tables.store.claim(None)
        tables.open(shards_of_step[0])
        _made(apart, step_id.partition(".")[2], shards)(tables)
        found[step_id] = tables.declared
    return found


def _made(deployment: Deployment, name: str, shards: int) -> Callable[[Tables], Any]:
    """What builds the core of a step: as in the flow."""
    if name == "person" and shards > 1:
        return deployment.residence(_Nowhere())
    made: Callable[[Tables], Any] = getattr(deployment, name)
    return made


class _Nowhere:
    """A way back that nothing takes."""

    def send(self, parcel: Parcel) -> None:
        """A state of nothing has nothing to send."""

    def arrived(self, origin: int) -> Iterable[tuple[int, int]]:  # noqa: ARG002
        """Nothing has come."""
        return ()
