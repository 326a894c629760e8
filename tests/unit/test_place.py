"""Geometry without a geometry library, against one."""

from math import inf

import pytest
import shapely
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from operators.venues.place import Places
from operators.venues.rings import Shape, hull
from schemas.reference import Ring, Site, Zone
from schemas.venue import Floor, Venue

SITE = Site(event_time=0, site_id="s", lat_deg=0.0, lon_deg=0.0, time_zone="UTC")


def ring(*corners):
    return Ring(xy_m=[value for corner in corners for value in corner])


def box(west, south, east, north):
    return ring((west, south), (east, south), (east, north), (west, north), (west, south))


def zone(zone_id, *rings, **fields):
    return Zone(event_time=0, zone_id=zone_id, floor=fields.pop("floor", 0.0), rings=list(rings), **fields)


def venue(*zones, floors=()):
    return Venue(site=SITE, floors=list(floors), zones={each.zone_id: each for each in zones}, devices={})


coordinate = st.integers(-200, 200).map(lambda tenths: tenths / 10)
corner = st.tuples(coordinate, coordinate)
anywhere = st.floats(-30, 30, allow_nan=False)


def signed(area, x, y):
    """The same distance by shapely."""
    point = shapely.Point(x, y)
    apart = area.boundary.distance(point)
    return -apart if area.contains(point) else apart


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.lists(corner, min_size=3, max_size=9), anywhere, anywhere)
def test_distance_is_that_of_shapely(corners, x, y):
    """Any simple ring, any point: the signed distance of a library that knows."""
    area = shapely.Polygon(corners)
    assume(area.is_valid and area.area > 0.01)
    assert Shape([corners]).distance(x, y) == pytest.approx(signed(area, x, y), abs=1e-9)


@settings(derandomize=True, max_examples=150, deadline=None)
@given(anywhere, anywhere)
def test_holes_and_parts_need_no_case_of_their_own(x, y):
    """A square with a hole and an island in the hole, and a second part far off."""
    rings = [
        [(0, 0), (12, 0), (12, 12), (0, 12)],
        [(3, 3), (9, 3), (9, 9), (3, 9)],
        [(5, 5), (7, 5), (7, 7)],
        [(15, 0), (18, 0), (15, 5)],
    ]
    area = shapely.MultiPolygon([(rings[0], [rings[1]]), (rings[2],), (rings[3],)])
    assert Shape(rings).distance(x, y) == pytest.approx(signed(area, x, y), abs=1e-9)


def test_in_a_hole_the_distance_is_positive_and_to_its_edge():
    """A hole is outside, as far outside as its edge is near."""
    shape = Shape([[(0, 0), (12, 0), (12, 12), (0, 12)], [(3, 3), (9, 3), (9, 9), (3, 9)]])
    assert shape.distance(4, 6) == 1
    assert shape.distance(2, 6) == -1


@settings(derandomize=True, max_examples=200, deadline=None)
@given(anywhere, anywhere)
def test_squares_answer_as_every_zone_measured(x, y):
    """The index leaves out no zone, adds none, and never changes a distance."""
    zones = [
        zone("a", box(-10, -10, 0, 0)),
        zone("b", ring((0, 0), (9.7, 1.3), (4.4, 8.8)), exit_margin_m=2.5, acc_cap_m=1.0),
        zone("c", box(-4, -4, 6, 6), box(-1, -1, 1, 1), sensitive=True),
        zone("up", box(-10, -10, 10, 10), floor=1.0),
    ]
    places = Places(venue(*zones, floors=[Floor(floor=0.0, rings=[[(-12, -12), (12, -12), (12, 12), (-12, 12)]])]))
    measured = [(each.zone_id, places.distance(each.zone_id, x, y)) for each in zones if each.floor == 0.0]
    assert places.near(0.0, x, y) == [(zone_id, d) for zone_id, d in measured if d <= 3.5]
    outline = shapely.box(-12, -12, 12, 12)
    assert places.off_floor(0.0, x, y) == (signed(outline, x, y) > 5)
    assert places.sensitive(0.0, x, y) == (places.distance("c", x, y) <= 0)


def test_without_an_outline_the_store_zone_is_the_floor_else_the_hull():
    """OFF_FLOOR is measured from what is known of a floor."""
    store = Places(venue(zone("store", box(0, 0, 10, 10), kind="STORE"), zone("yard", box(40, 0, 50, 10))))
    assert store.off_floor(0.0, 30, 5)
    loose = Places(venue(zone("a", box(0, 0, 10, 10)), zone("yard", box(40, 0, 50, 10))))
    assert not loose.off_floor(0.0, 30, 5)
    assert loose.off_floor(0.0, 30, 15.001)
    assert not loose.off_floor(0.0, 30, 15)


def test_a_zone_may_be_replaced_moved_and_taken_away():
    """After an edit every answer is that of the new zone, on both floors it was on."""
    places = Places(venue(zone("a", box(0, 0, 4, 4)), zone("b", box(0, 0, 9, 9), floor=1.0)))
    assert places.near(0.0, 2, 2) == [("a", -2)]
    places.put(zone("a", box(10, 10, 14, 14)))
    assert places.near(0.0, 2, 2) == []
    assert places.distance("a", 12, 12) == -2
    places.put(zone("a", box(1, 1, 5, 5), floor=1.0))
    assert not places.knows_floor(0.0)
    assert places.near(1.0, 2, 2) == [("a", -1), ("b", -2)]
    places.remove("a")
    places.remove("a")
    assert places.near(1.0, 2, 2) == [("b", -2)]
    assert places.distance("a", 2, 2) == inf
    places.put(zone("b", box(0, 0, 9, 9), floor=1.0, deleted=True))
    assert not places.knows_floor(1.0)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.lists(corner, min_size=3, max_size=8))
def test_side_is_the_largest_circle_inside(corners):
    """Against shapely's own search, to two millimetres."""
    area = shapely.Polygon(corners)
    assume(area.is_valid and area.area > 1)
    radius = shapely.maximum_inscribed_circle(area, tolerance=0.0005).length
    assert Shape([corners]).side() == pytest.approx(2 * radius, abs=0.005)


def test_side_of_a_rectangle_is_its_shorter_one():
    """Exactly, or three metres would be too small for three metres."""
    assert Shape([[(0, 0), (3, 0), (3, 3), (0, 3), (0, 0)]]).side() == 3.0
    assert Shape([[(1, 1), (31, 1), (31, 21), (1, 21)]]).side() == 20.0


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.lists(corner, min_size=3, max_size=12))
def test_hull_is_that_of_shapely(corners):
    """The smallest convex ring."""
    expected = shapely.MultiPoint(corners).convex_hull
    assume(expected.geom_type == "Polygon")
    assert shapely.Polygon(hull(corners)).equals(expected)
