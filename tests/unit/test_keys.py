"""Keys and partitions: Java's own results, and one key for whatever must keep its order."""

import msgspec
import pytest

from flows.feed import _tokened
from schemas.derived import Command
from schemas.keys import _KEYS, key_of, murmur2, partition_of
from schemas.operations import DeadLetter, Late
from schemas.people import Receipt
from schemas.pseudonym import EXAMPLE_KEY, subject_tokens, tokens
from schemas.sensing import Position
from schemas.topics import TOPICS

JAVA = {
    "user-0": 637506763,
    "user-1": 1404122828,
    "user-2": -324981792,
    "user-399": 425346419,
    "Kundin-ÄÖ-0": 1350719045,
    "k": -1567496736,
    "k" * 100: -960995920,
}
"""What `org.apache.kafka.common.utils.Utils.murmur2` answers."""


@pytest.mark.parametrize(("key", "hashed"), JAVA.items())
def test_murmur2_is_that_of_java(key, hashed):
    assert murmur2(key.encode()) == hashed


def test_a_partition_is_the_positive_hash_by_remainder():
    assert partition_of("user-2", 12) == (-324981792 & 0x7FFFFFFF) % 12


def test_keys_spread_evenly():
    found = [0] * 12
    for number in range(12_000):
        found[partition_of(f"mad-01|tag:1:{number}", 12)] += 1
    assert min(found) > 850
    assert max(found) < 1150


def test_every_topic_has_a_key():
    assert _KEYS.keys() == TOPICS.keys()


def test_subject_person_and_origin_route():
    position = Position(event_time=1, site_id="mad-01", subject_id="tag:1:a", tech="UWB", x_m=0.0, y_m=0.0, floor=0.0)
    assert key_of("sensing.position", position) == "mad-01|tag:1:a"
    receipt = Receipt(event_time=1, site_id="mad-01", receipt_id="r1", currency="EUR", total_minor=1, lines=[])
    assert key_of("pos.receipt", receipt) == "mad-01|r1"
    late = Late(
        event_time=1, site_id="s", origin_topic="sensing.position", origin_partition=3, origin_offset=1,
        late_by_us=1, watermark=1, payload=b"",
    )  # fmt: skip
    assert key_of("ops.late", late) == "sensing.position|3"
    letter = DeadLetter(
        event_time=1, origin_topic="web.event", origin_partition=2, origin_offset=1, stage="DECODE",
        reason="BAD_SHAPE", detail="", payload_size=0, payload_sha256=b"", attempts=1, count=1, version="1",
    )  # fmt: skip
    assert key_of("ops.dead-letter", letter) == "web.event|2"


def command(**changed):
    fields = {
        "event_id": "a", "event_time": 1, "site_id": "s", "campaign_id": "c", "campaign_version": "1", "step": "0",
        "decision_id": "d", "channel": "SCREEN", "target_id": "screen-1", "template_id": "t", "locale": "en",
        "params": {}, "purpose": "p", "while_present": True, "expires_at": 2, "priority": 0,
    }  # fmt: skip
    return Command(**{**fields, **changed})


def test_a_command_goes_with_its_person_else_with_its_target():
    assert key_of("action.command", command(anchor_id="loyalty:1:x")) == "loyalty:1:x"
    assert key_of("action.command", command()) == "s|screen-1"


def test_the_simulated_shop_keys_by_token_as_a_gateway_would():
    position = Position(
        event_time=1, ingest_time=1, site_id="mad-01", source_id="g", subject_id="tag:ana-tag", tech="UWB",
        x_m=0.0, y_m=0.0, floor=0.0,
    )  # fmt: skip
    subject = subject_tokens(tokens(EXAMPLE_KEY, 1))
    assert key_of("sensing.position", _tokened(position, subject)) == "mad-01|tag:1:3z2kiuxszjrwxxxf6a7q"
    spoilt = msgspec.structs.replace(position, subject_id="")
    assert _tokened(spoilt, subject) == spoilt
