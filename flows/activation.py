"""Activation: what a person did becomes an action, or a recorded reason why not."""

import bytewax.operators as op
from bytewax.dataflow import Dataflow

from flows.deployment import Deployment
from flows.ports import Ports
from operators.engine import dealt, step, together


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


def activation_on_shards(deployment: Deployment, ports: Ports) -> Dataflow:
    """The same where several processes share the persons: lanes in, one look at who is who, shards, lanes out."""
    assert ports.returns is not None, "shards need a way back"
    flow = Dataflow("activation")
    heard = op.input("topics", flow, ports.topics)
    decoded = step("decode", heard, deployment.decode, ports)
    admitted = step("admit", decoded, deployment.admit, ports)
    gathered = step("gather", together("meet", admitted), deployment.gather, ports)
    occupied = step("occupancy", gathered, deployment.occupancy, ports)
    stitched = step("stitch", occupied, deployment.stitch, ports)
    homed = dealt("homes", stitched, deployment.homes, ports)
    returned = op.input("returns", flow, ports.returns)
    decided = step("person", op.merge("at-home", homed, returned), deployment.residence(ports.returns), ports)
    op.output("records", op.flat_map("outlets", decided, ports.outlets), ports.records)
    return flow
