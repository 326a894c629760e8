"""Activation: what a person did becomes an action, or a recorded reason why not."""

import bytewax.operators as op
from bytewax.dataflow import Dataflow

from flows.deployment import Deployment
from flows.ports import Ports
from operators.engine import step


def activation(deployment: Deployment, ports: Ports) -> Dataflow:
    """Wire the flow between `ports`; nothing is opened and nothing runs here."""
    flow = Dataflow("activation")
    heard = op.input("topics", flow, ports.topics)
    decoded = step("decode", heard, deployment.decode, ports)
    admitted = step("admit", decoded, deployment.admit, ports)
    occupied = step("occupancy", admitted, deployment.occupancy, ports)
    stitched = step("stitch", occupied, deployment.stitch, ports)
    decided = step("person", stitched, deployment.person, ports)
    delivered = step("deliver", decided, deployment.deliver, ports)
    op.output("records", delivered, ports.records)
    return flow
