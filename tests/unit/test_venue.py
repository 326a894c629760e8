"""A venue file: what it becomes, and every way in which it can be wrong."""

import json
import math
import re

import pytest

from operators.venues.venue import EARTH_M, VenueFault, dwelling, gather, load_venue
from schemas.reference import Ring, Zone

SITE = {
    "site_id": "mad-01",
    "lat_deg": 40.4168,
    "lon_deg": -3.7038,
    "bearing_deg": 0.0,
    "time_zone": "Europe/Madrid",
    "opening": ["Mo-Sa 09:00-21:00"],
    "currency": "EUR",
}


def square(west, south, side, *holes):
    corners = [[west, south], [west + side, south], [west + side, south + side], [west, south + side], [west, south]]
    return {"type": "Polygon", "coordinates": [corners, *holes]}


def feature(name, geometry, **properties):
    return {"type": "Feature", "id": name, "properties": properties, "geometry": geometry}


def zone(name="offers", geometry=None, **properties):
    return feature(name, geometry or square(10, 4, 6), **{"type": "zone", "kind": "OFFER", **properties})


STORE = zone("store", square(0, 0, 30), kind="STORE")


@pytest.fixture
def load(tmp_path):
    def written(*features, strict_zones=False, crs="local", site=SITE, **members):
        path = tmp_path / "venue.geojson"
        path.write_text(
            json.dumps({"type": "FeatureCollection", "crs": crs, "site": site, "features": list(features), **members})
        )
        return load_venue(path, strict_zones=strict_zones)

    return written


def test_a_whole_venue(load):
    """Every property lands in the field it names, durations as microseconds."""
    found = load(
        feature("ground", square(0, 0, 30), type="floor", floor=0),
        STORE,
        zone(
            name="offers",
            category="offers",
            exclusive_group="g",
            priority=2,
            sensitive=True,
            valid_from="2026-01-01T00:00:00Z",
            valid_to=1796486400000000,
            tech="UWB",
            dwell=["45s", "10s", "45s"],
            enter_margin_m=0.1,
            enter_confirm="1500ms",
            enter_fixes=3,
            exit_margin_m=0.25,
            exit_confirm="3s",
            exit_fixes=4,
            gap="20s",
            fresh="6s",
            edge_max="40s",
            acc_cap_m=0.5,
            takeover_margin_m=0.5,
            max_dwell="2h",
        ),
        feature(
            "screen-7",
            {"type": "Point", "coordinates": [13, 10]},
            type="device",
            kind="SCREEN",
            zone_id="offers",
            floor=0,
            view_zones=["offers"],
            shared=True,
            heading_deg=90,
            capabilities={"audio": "no"},
        ),
        feature("till", None, type="device", kind="TILL"),
    )
    assert found.warnings == []
    offers = found.zones["offers"]
    assert offers.dwell_us == [10_000_000, 45_000_000]
    assert (offers.enter_confirm_us, offers.gap_us, offers.max_dwell_us) == (1_500_000, 20_000_000, 7_200_000_000)
    assert (offers.valid_from, offers.valid_to) == (1767225600000000, 1796486400000000)
    assert offers.site_id == "mad-01"
    assert found.centroids["offers"] == (13, 7)
    assert found.site.legal_basis == "PSEUDONYMOUS"
    assert found.devices["screen-7"].view_zones == ["offers"]
    assert found.devices["till"].x_m is None
    assert found.floors[0].floor == 0.0


@pytest.mark.parametrize(("bearing", "x", "y"), [(0, 100, 50), (90, -50, 100), (180, -100, -50)])
def test_degrees_become_metres_about_the_origin_turned_by_the_bearing(load, bearing, x, y):
    """The y axis of the frame points to `bearing`, clockwise from north."""
    site = {**SITE, "bearing_deg": bearing}
    east = math.degrees(100 / EARTH_M / math.cos(math.radians(SITE["lat_deg"])))
    north = math.degrees(50 / EARTH_M)
    place = {"type": "Point", "coordinates": [SITE["lon_deg"] + east, SITE["lat_deg"] + north]}
    d = 0.0002
    ring = [[SITE["lon_deg"] + dx, SITE["lat_deg"] + dy] for dx, dy in ((0, 0), (d, 0), (d, d), (0, d), (0, 0))]
    found = load(
        zone("store", {"type": "Polygon", "coordinates": [ring]}, kind="STORE"),
        feature("beacon", place, type="device", kind="BEACON"),
        crs="wgs84",
        site=site,
    )
    device = found.devices["beacon"]
    assert (device.x_m, device.y_m) == pytest.approx((x, y), abs=1e-3)


OPEN = {"type": "Polygon", "coordinates": [[[0, 0], [6, 0], [6, 6], [0, 6]]]}
LINE = {"type": "Polygon", "coordinates": [[[0, 0], [6, 0], [0, 0]]]}
BOW = {"type": "Polygon", "coordinates": [[[0, 0], [6, 6], [6, 0], [0, 6.5], [0, 0]]]}
FLAT = {"type": "Polygon", "coordinates": [[[0, 0], [3, 0], [6, 0], [0, 0]]]}
FAULTS = {
    "ring not closed": (zone(geometry=OPEN), r"closed.*got \[0, 0\] and \[0, 6\]"),
    "fewer than 3 points": (zone(geometry=LINE), r"at least 3 points; got 2"),
    "self-intersecting": (zone(geometry=BOW), r"cross.*Self-intersection"),
    "zero area": (zone(geometry=FLAT), r"zero area"),
    "hole outside": (zone(geometry=square(0, 0, 6, [[8, 8], [9, 8], [9, 9], [8, 8]])), r"hole must lie inside"),
    "unknown floor": (zone(floor=3), r"floor must be one of \[0\.0\]; got 3\.0"),
    "unknown kind": (zone(kind="OFERS"), r"kind must be one of .*got 'OFERS' \(nearest: 'OFFER'\)"),
    "unknown property": (zone(enter_marginm=1), r"got 'enter_marginm' \(nearest: 'enter_margin_m'\)"),
    "unknown type": (feature("x", None, type="devise"), r"got 'devise' \(nearest: 'device'\)"),
    "id twice": (zone("store"), r"used once; got it at index 1 too"),
    "no id": (zone(""), r"id must be a text; got ''"),
    "fresh above gap": (zone(gap="5s", fresh="6s"), r"fresh must not exceed gap \(5s\); got 6s"),
    "negative length": (zone(exit_margin_m=-1), r"exit_margin_m must not be negative; got -1"),
    "negative duration": (zone(gap="-5s"), r"gap must be a number with its unit.*got '-5s'"),
    "bare number": (zone(dwell=[45]), r"dwell must be a number with its unit.*got 45"),
    "no fixes": (zone(enter_fixes=0), r"enter_fixes must be at least 1; got 0"),
    "degrees in a local file": (
        zone(geometry=square(-3.7, 40.41, 0.0002)),
        r"metres in a local file.*looks like degrees",
    ),
    "a device in degrees": (
        feature("d", {"type": "Point", "coordinates": [-3.7037, 40.4169]}, type="device", kind="QR"),
        r"looks like degrees",
    ),
    "not a number": (
        zone(geometry={"type": "Polygon", "coordinates": [[["a", 0], [1, 0], [1, 1], ["a", 0]]]}),
        r"two numbers; got \['a', 0\]",
    ),
    "a point for an area": (
        zone(geometry={"type": "Point", "coordinates": [1, 1]}),
        r"Polygon or a MultiPolygon; got 'Point'",
    ),
    "unknown zone of a device": (
        feature("d", None, type="device", kind="TILL", zone_id="ofers"),
        r"got 'ofers' \(nearest: 'offers'\)",
    ),
    "ends before it begins": (zone(valid_from=10, valid_to=10), r"valid_to must be after valid_from"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_names_file_feature_index_expectation_and_find(load, name):
    """Each fault alone, beside good features."""
    broken, message = FAULTS[name]
    others = [zone("offers", square(20, 20, 6))] if broken["id"] != "offers" else []
    with pytest.raises(VenueFault, match=message) as caught:
        load(feature("ground", square(0, 0, 30), type="floor", floor=0), STORE, *others, broken)
    (fault,) = caught.value.faults
    assert fault.startswith(f"venue.geojson: feature {broken['id']!r} (index {2 + len(others)})")


def test_metres_in_a_wgs84_file(load):
    """The reverse of degrees in a local one, by range and by distance from the origin."""
    with pytest.raises(VenueFault, match="looks like metres") as caught:
        load(zone(geometry=square(200, 100, 6)), crs="wgs84")
    assert len(caught.value.faults) == 1
    with pytest.raises(VenueFault, match="km from it"):
        load(zone(geometry=square(10, 4, 6)), crs="wgs84")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"crs": "epsg"}, "crs must be 'local' or 'wgs84'; got 'epsg'"),
        ({"site": None}, "site must be an object"),
        ({"site": {**SITE, "time_zone": "Europe/Madrit"}}, "IANA time zone"),
        ({"site": {**SITE, "opening": ["Mo-Xx 09:00"]}}, "opening hours like"),
        ({"site": {**SITE, "legal_basis": "CONSENTS"}}, "nearest: 'CONSENT'"),
        ({"site": {**SITE, "lat_deg": 91}}, "lat_deg must be from -90 to 90; got 91"),
        ({"site": {"time_zone": "UTC"}}, "site_id must be there"),
        ({"site": {**SITE, "jurisdicton": "ES"}}, "nearest: 'jurisdiction'"),
    ],
)
def test_the_foreign_members_are_looked_at_too(load, members, message):
    """crs and site."""
    with pytest.raises(VenueFault, match=message):
        load(STORE, **members)


def test_all_faults_are_told_at_once(load):
    """A venue loads whole or not at all."""
    with pytest.raises(VenueFault) as caught:
        load(STORE, zone("a", geometry=OPEN), zone("b", kind="?"), zone("c", gapp="1s"))
    assert len(caught.value.faults) == 3


def test_what_is_no_json_is_told_with_its_line(tmp_path):
    """The file's own fault."""
    path = tmp_path / "venue.geojson"
    path.write_text('{"type":\n oops}')
    with pytest.raises(VenueFault, match=r"venue.geojson: line 2, column"):
        load_venue(path)


def test_a_file_that_is_not_there_is_told_by_name(tmp_path):
    """No traceback for a mistyped folder."""
    with pytest.raises(VenueFault, match=r"venue.geojson: must be a file that can be read; No such file"):
        load_venue(tmp_path / "venue.geojson")


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ([zone("small", square(0, 0, 2))], r"'small'.*circle of 3 m; got 2.00 m"),
        ([zone("a", square(0, 0, 8), tech="BLE_RSSI")], r"served by BLE_RSSI.*10 m"),
        (
            [zone("a", square(0, 0, 6), exclusive_group="g"), zone("b", square(5, 0, 6), exclusive_group="g")],
            r"overlap.*got 17 %",
        ),
        ([zone("a", square(0, 0, 6)), zone("b", square(6, 0, 6))], r"touch should be in one exclusive_group"),
        (
            [
                feature("d", {"type": "Point", "coordinates": [29, 29]}, type="device", kind="TILL", zone_id="z"),
                zone("z", square(0, 0, 6)),
            ],
            r"should stand in its zone 'z'",
        ),
        ([zone("a", exit_margin_m=2)], r"exit_margin_m should be at most a sixth.*1.00 is used"),
    ],
)
def test_what_is_doubtful_is_a_warning(load, features, message):
    """The venue still loads."""
    (warning,) = load(STORE, *features).warnings
    assert re.search(message, warning)


def test_no_warning_for_zones_of_one_group_that_only_touch(load):
    """Nor for shelves inside a department, nor for zones on two floors."""
    inside = zone("shelf", square(10, 4, 3))
    group = [zone("a", square(0, 0, 6), exclusive_group="g"), zone("b", square(6, 0, 6), exclusive_group="g")]
    above = zone("up", square(0, 0, 6), floor=1)
    assert load(STORE, *group, zone("dep", square(10, 4, 6)), inside, above).warnings == []


def test_no_store_zone_is_a_warning_and_a_small_zone_a_fault_where_zones_are_strict(load):
    """Strictness is a setting."""
    assert "STORE" in load(zone()).warnings[0]
    with pytest.raises(VenueFault, match="circle of 3 m"):
        load(STORE, zone(geometry=square(0, 0, 2)), strict_zones=True)


def test_records_make_the_same_venue_as_the_file(load):
    """`venue.*` from topics, the newest of each id, deleted ones left out."""
    file = load(STORE, zone(), feature("till", None, type="device", kind="TILL"))
    old = Zone(event_time=0, zone_id="offers", floor=0.0, rings=[Ring(xy_m=[0, 0, 4, 0, 4, 4])])
    gone = Zone(event_time=0, zone_id="gone", floor=0.0, rings=[Ring(xy_m=[0, 0, 4, 0, 4, 4])], deleted=True)
    assert gather(file.site, [old, gone, *file.zones.values()], file.devices.values()).zones == file.zones
    broken = Zone(event_time=0, zone_id="bow", floor=0.0, rings=[Ring(xy_m=[0, 0, 6, 6, 6, 0, 0, 6.5])])
    with pytest.raises(VenueFault, match="zone 'bow': a ring must not cross"):
        gather(file.site, [broken], [])


def test_parameters_come_from_technology_settings_and_zone_in_that_order(load):
    """And no margin exceeds a sixth of the side, nor fresh the gap."""
    offers = load(STORE, zone(gap="4s")).zones["offers"]
    uwb = dwelling(offers, "UWB")
    assert (uwb.exit_margin_m, uwb.enter_confirm_us, uwb.gap_us, uwb.fresh_us, uwb.max_dwell_us) == (
        0.5,
        1_000_000,
        4_000_000,
        4_000_000,
        4 * 3_600_000_000,
    )
    aoa = dwelling(
        offers,
        "BLE_AOA",
        {"": {"exit_fixes": 5, "edge_max_us": 7}, "BLE_AOA": {"exit_fixes": 3}, "UWB": {"exit_fixes": 9}},
    )
    assert (aoa.exit_margin_m, aoa.exit_confirm_us, aoa.exit_fixes, aoa.edge_max_us) == (1.0, 6_000_000, 3, 7)
    small = load(STORE, zone(geometry=square(0, 0, 1.5), enter_margin_m=0.4)).zones["offers"]
    assert (dwelling(small, "UWB").exit_margin_m, dwelling(small, "UWB").enter_margin_m) == (0.25, 0.25)
    store = load(STORE).zones["store"]
    assert dwelling(store, "UWB").max_dwell_us == 14 * 3_600_000_000
