"""What sensors say: positions, counts, scans, and how the source itself is."""

from typing import Annotated

from schemas.types import Blob, Flag, Float, Instant, Int, Lean, Long, Record, Text, symbols

Tech = Annotated[str, symbols("Tech", "UWB BLE_AOA BLE_RSSI WIFI_RTT CAMERA RFID GNSS SCAN")]
SourceState = Annotated[str, symbols("SourceState", "UP DEGRADED QUARANTINED DOWN MAINTENANCE")]
Medium = Annotated[str, symbols("Medium", "QR NFC DATAMATRIX BARCODE")]


class Position(Lean, frozen=True, kw_only=True):
    """One reading of one subject, in the site frame."""

    subject_id: Text
    tech: Tech = "UNKNOWN"
    x_m: Float
    y_m: Float
    z_m: Float | None = None
    floor: Float
    accuracy_m: Float | None = None
    speed_mps: Float | None = None


class PositionBatch(Record, frozen=True, kw_only=True):
    """Many readings in columns of little-endian values; `event_time` is the base of the offsets."""

    first_seq: Long | None = None
    tech: Tech = "UNKNOWN"
    count: Int
    subjects: list[Text] = []
    subject_ix: Blob
    time_offset_us: Blob
    x_m: Blob
    y_m: Blob
    floor: Blob
    accuracy_m: Blob = b""
    z_m: Blob = b""
    speed_mps: Blob = b""


class PeopleCount(Record, frozen=True, kw_only=True):
    """What a people counter saw in one interval; never a subject."""

    counter_id: Text
    zone_id: Text | None = None
    interval_start: Instant
    interval_end: Instant
    count_in: Int
    count_out: Int
    occupancy: Int | None = None
    staff_excluded: Flag = False


class Scan(Record, frozen=True, kw_only=True):
    """A code or tag read by a person's device or a fixed reader."""

    subject_id: Text
    device_id: Text
    medium: Medium = "UNKNOWN"
    uri: Text | None = None
    gtin: Text | None = None
    lot: Text | None = None
    serial: Text | None = None
    nfc_counter: Long | None = None
    signature_ok: Flag | None = None
    identifiers: list[Text] = []


class SourceStatus(Record, frozen=True, kw_only=True):
    """A gateway's word on itself: alive, how far, how late."""

    state: SourceState = "UNKNOWN"
    watermark: Instant | None = None
    clock_offset_us: Long | None = None
    delay_p50_us: Long | None = None
    delay_p99_us: Long | None = None
    heartbeat_us: Long
    sent: Long = 0
    dropped: Long = 0
