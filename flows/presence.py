"""Presence: what sensors hear becomes stays, said while they last."""

import bytewax.operators as op
from bytewax.dataflow import Dataflow

from flows.deployment import Deployment
from flows.ports import Ports
from operators.engine import step


def presence(deployment: Deployment, ports: Ports) -> Dataflow:
    """Wire the flow between `ports`; nothing is opened and nothing runs here."""
    flow = Dataflow("presence")
    heard = op.input("topics", flow, ports.topics)
    decoded = step("decode", heard, deployment.decode, ports)
    admitted = step("admit", decoded, deployment.admit, ports)
    dwelt = step("dwell", admitted, deployment.dwell, ports)
    op.output("records", dwelt, ports.records)
    return flow
