"""Writes `garden/in`: Marta and Jo, a garden, a bench, and what each is told.

Marta (gold) stands in the garden for 40 s: told at 30 s, on her phone. Jo (no tier) stands there as long: the
clause is false. Both leave; Jo has a receipt, Marta has none, and two hours later only she gets an e-mail.
Marta's tag falls silent in the middle for 4 s, which changes nothing. One row is late, one no JSON.

`python -m tests.golden.garden_story` writes it anew.
"""

from pathlib import Path

import orjson

from schemas.rows import instant

FOLDER = Path(__file__).parent / "garden" / "in"
T0 = instant("2026-12-05T10:00:00Z")
SECOND = 1_000_000
AGREED = ("personalisation", "in_store_location", "profiling", "linking")


def _square(x: float, y: float, side: float) -> list[list[list[float]]]:
    return [[[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]]


def _feature(name: str, properties: dict[str, object], shape: str, coordinates: object) -> dict[str, object]:
    geometry = {"type": shape, "coordinates": coordinates}
    return {"type": "Feature", "id": name, "properties": properties, "geometry": geometry}


def venue() -> dict[str, object]:
    """A hall of 20 m with a garden of 8 m and a screen."""
    site = {
        "site_id": "vlc-02", "lat_deg": 39.4699, "lon_deg": -0.3763, "bearing_deg": 0.0, "time_zone": "Europe/Madrid",
        "opening": ["Mo-Sa 09:00-21:00"], "currency": "EUR", "jurisdiction": "ES", "legal_basis": "CONSENT",
    }  # fmt: skip
    features = [
        _feature("ground", {"type": "floor", "floor": 0}, "Polygon", _square(0, 0, 20)),
        _feature("hall", {"type": "zone", "kind": "STORE", "name": "Hall", "floor": 0}, "Polygon", _square(0, 0, 20)),
        _feature(
            "garden",
            {"type": "zone", "kind": "DEPARTMENT", "name": "Garden", "floor": 0, "category": "garden"},
            "Polygon",
            _square(10, 10, 8),
        ),
        _feature(
            "screen-1",
            {
                "type": "device",
                "kind": "SCREEN",
                "floor": 0,
                "zone_id": "garden",
                "view_zones": ["garden"],
                "shared": True,
            },
            "Point",
            [14, 18],
        ),
    ]
    return {"type": "FeatureCollection", "crs": "local", "site": site, "features": features}


FILES = {
    "footfall.toml": '[site]\nid = "vlc-02"\n',
    "segments/members.yaml": 'segment: members\nenter: \'person.tier == "gold" || person.tier == "silver"\'\n',
    "campaigns/bulbs.yaml": """campaign: bulbs
owner: garden
when: {dwell: {zone: garden, at_least: 30s}}
if:
  member: '"members" in person.segments'
guard:
  identity: confirmed
  consent: [personalisation, in_store_location]
  caps: {this: 1 per calendar day}
do:
  - {channel: push, template: bulbs, ttl: 60s}
""",
    "campaigns/missed-you.yaml": """campaign: missed-you
owner: crm
when: {absence: {after: {exited: {site: any}}, without: {event: pos.receipt}, within: 2h}}
if:
  agreed: 'identity.confidence >= 1.0'
guard:
  identity: confirmed
  consent: [in_store_location]
do:
  - {channel: email, template: missed-you, ttl: 6h}
""",
    "templates/bulbs.yaml": """template: bulbs
fallback_locale: en
parts:
  push: {en: 'Hello {{ person.first_name | default: "there" }}, bulbs: take three, pay two'}
""",
    "templates/missed-you.yaml": """template: missed-you
fallback_locale: en
parts:
  email: {en: {subject: 'You were here', text: 'Nothing found, {{ person.first_name | default: "friend" }}?'}}
""",
}


def papers() -> dict[str, list[dict[str, object]]]:
    """Who they are and what they agreed to, an hour before."""
    rows: dict[str, list[dict[str, object]]] = {
        name: [] for name in ("crm.customer", "crm.contact-point", "consent.record", "identity.link")
    }
    at = T0 - 3600 * SECOND
    for name, tier in (("marta", "gold"), ("jo", None)):
        card = f"loyalty:{name}-card"
        rows["crm.customer"].append(
            {
                "event_time": at,
                "site_id": "",
                "identifiers": [card, f"email:{name}@example.com"],
                "tier": tier,
                "source_version": "1",
            }
        )
        for kind, value in (("NAME", name.title()), ("PUSH", f"push-{name}"), ("EMAIL", f"{name}@example.com")):
            rows["crm.contact-point"].append(
                {"event_time": at, "site_id": "", "identifier": card, "kind": kind, "value": value, "verified": True}
            )
        purposes = [{"code": code, "granted": True} for code in (*AGREED, "contact")]
        rows["consent.record"].append(
            {"event_time": at, "site_id": "", "identifier": card, "purposes": purposes, "language": "en"}
        )
        rows["identity.link"].append(
            {"event_time": at, "from_id": f"tag:{name}", "to_id": card, "method": "QR_PAIR", "valid_from": at}
        )
    return rows


def _walk(name: str, start: float, y: float) -> list[dict[str, object]]:
    """In from the door, 40 s in the garden, and out, at 2 Hz."""
    rows: list[dict[str, object]] = []
    for step in range(140):
        t = step / 2
        x = 2 + 2 * t if t < 6 else 14.0 if t < 46 else max(2.0, 14 - 2 * (t - 46))
        if name == "marta" and 20 < t < 24:
            continue  # her tag is asleep
        at = T0 + int((start + t) * SECOND)
        rows.append(
            {
                "event_time": at,
                "ingest_time": at + 120_000,
                "source_id": f"uwb-{name}",
                "seq": step,
                "subject_id": f"tag:{name}",
                "tech": "UWB",
                "x_m": x,
                "y_m": y,
                "floor": 0,
            }
        )
    return rows


def main() -> None:
    """Write the directory."""
    rows = papers()
    walks = sorted(
        _walk("marta", 0, 14.0) + _walk("jo", 5, 13.0), key=lambda row: (row["ingest_time"], row["source_id"])
    )
    late = {**walks[120], "seq": 900, "event_time": int(str(walks[120]["event_time"])) - 30 * SECOND}
    rows["sensing.position"] = [*walks[:121], late, *walks[121:]]
    sold = T0 + 90 * SECOND
    line = {"sku": "bulb-3", "category": "garden", "quantity_milli": 3000, "line_total_minor": 898, "kind": "SALE"}
    rows["pos.receipt"] = [
        {
            "event_time": sold,
            "receipt_id": "1-1-1",
            "identifiers": ["loyalty:jo-card"],
            "currency": "EUR",
            "total_minor": 898,
            "kind": "SALE",
            "lines": [line],
        }
    ]
    closing = T0 + 3 * 3600 * SECOND
    rows["web.event"] = [{"event_time": closing, "name": "page_viewed", "identifiers": ["cookie:passer-by"]}]
    for name, text in FILES.items():
        path = FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (FOLDER / "venue.geojson").write_bytes(orjson.dumps(venue(), option=orjson.OPT_INDENT_2))
    for topic, found in rows.items():
        lines = [orjson.dumps(row) for row in found]
        if topic == "sensing.position":
            lines.insert(60, b"this is no row")
        (FOLDER / f"{topic}.jsonl").write_bytes(b"\n".join(lines) + b"\n")


if __name__ == "__main__":
    main()
