"""The doctor on what is outside: broker, topics, rights, registry and clock, asked as a start asks them."""

from collections.abc import Callable, Iterator
from functools import cache

from flows import doctor_home, ports
from flows.findings import Look, Told, sick, unseen
from flows.joining import lacks, reading, wanted_topics
from flows.remedies import written_off
from flows.replay import FLOWS
from flows.settings import Settings
from flows.start import TOPICS_MADE, Start
from operators.connectors import copies, rights, subjects, topics
from operators.connectors.access import Admin
from operators.connectors.cluster import Cluster, RowsGone
from operators.connectors.outputs import FENCED, Outputs, writers
from operators.connectors.owner import OwnerUnreadable
from operators.connectors.placing import Placing
from operators.connectors.reading import Counters, group_of
from operators.connectors.registry import Registry, RegistryAway, RegistryRefused
from operators.connectors.sink import GuardedSink
from operators.connectors.source import lane_name
from operators.connectors.tails import READ_BACK
from operators.state.home import StateLost

_SKEW_S = 2.0
_CALL_S = 5.0


def looks(settings: Settings, start: Start) -> Iterator[Look]:
    """Everything outside."""

    @cache
    def admin() -> Admin:
        made = Admin(ports.broker(settings, start.base, insecure=start.insecure))
        made.wait(_CALL_S, lambda _text: None)
        return made

    def noted(what: str, look: Callable[[], str]) -> str:
        try:
            return look()
        except Exception as error:
            if not isinstance(error, Told) or error.word == "WRONG":
                wrong.append(what)
            raise

    def up(*needed: str) -> Admin:
        """The broker, where it answers and all that is needed of it was found well."""
        if bad := [what for what in ("broker", *needed) if what in wrong]:
            raise unseen(f"see {bad[0]}")
        return admin()

    wrong: list[str] = []
    yield "broker", lambda: noted("broker", lambda: f"{admin().access.bootstrap} answers")
    yield "topics", lambda: noted("topics", lambda: _topics(up(), settings, start))
    yield "places", lambda: _places(up("topics"), settings, start)
    yield "earlier life", lambda: _earlier(up(), settings, start)
    yield "rights", lambda: _rights(up(), settings, start.flow)
    yield "registry", lambda: _registry(settings, start)
    yield "clock", lambda: _clock(settings, start)


def _topics(admin: Admin, settings: Settings, start: Start) -> str:
    wanted = wanted_topics(settings, start.flow)
    outputs = {settings.topics.prefix + topic for topic in FLOWS[start.flow].writes}
    planned = topics.plan(admin, wanted, admin.access.bootstrap, outputs)
    first = doctor_home.first(start.base / settings.state.dir)
    if lacking := lacks(planned, start, first=first):
        raise sick(lacking, f"{start.beside(*TOPICS_MADE)}; what differs is yours to decide")
    told = f"{len(planned.there)} topics as they should be, and ours to read and write"
    if untold := sorted(name for name, found in planned.found.items() if not found.told):
        told += f"; not looked at: rights on {', '.join(untold)}, of which the broker says nothing"
    if warnings := [*planned.warnings, *copies.scarce(planned, copies.copies(admin, wanted))]:
        raise Told("warn", f"{told}; {'; '.join(warnings)}")
    return told


def _places(admin: Admin, settings: Settings, start: Start) -> str:
    """Whether the broker still has what a start would read next, as a start asks it."""
    warnings: list[str] = []
    gone: dict[Start, dict[str, str]] = {}
    behind, asked = 0, False
    for again, process, lanes in doctor_home.snapshots(start.base / settings.state.dir, start):
        rule = reading(process, settings, admin.access)
        cluster = Cluster(rule.client, warnings.append)
        placing = Placing(rule, Counters(), warnings.append, cluster.offsets)
        for lane in rule.lanes_here:
            placing.resume(lane, lanes.get(lane_name(lane)))
        seen = cluster.await_topics(placing.names, _CALL_S)
        placing.fits(seen)
        try:
            parts = placing.parts(seen)
        except RowsGone as error:
            gone.setdefault(again, {}).update(error.gone)
        else:
            behind += sum(seen.ends[place] - part.next for place, part in parts.items())
        asked = True
    if gone:
        told = RowsGone({place: about for places in gone.values() for place, about in places.items()})
        raise sick(str(told), ". ".join(written_off(places, again) for again, places in gone.items()))
    if warnings:
        raise Told("warn", "; ".join(warnings))
    return f"all that is to be read next is there: {behind:,} rows" if asked else "nothing was read yet"


def _rights(admin: Admin, settings: Settings, flow: str) -> str:
    """Those on topics are looked at with the topics, as a start does."""
    groups = [group_of(flow), READ_BACK]
    lacking, silent = rights.of_groups(admin, groups)
    if lacking:
        raise rights.NoRight(admin.access, lacking)
    not_told = [f"READ on group {name}" for name in silent]
    if FLOWS[flow].writes & FENCED:
        not_told.append(f"WRITE on transactional ids {writers(settings.topics.prefix, flow)}*")
    ours = [name for name in groups if name not in silent]
    told = [f"groups {' and '.join(ours)} are ours to read"] if ours else []
    return "; ".join([*told, *([f"not looked at: {', '.join(not_told)}"] if not_told else [])])


def _earlier(admin: Admin, settings: Settings, start: Start) -> str:
    """Whether the broker knows of a life of this flow that its state does not."""
    path, flow = start.base / settings.state.dir, start.flow
    if not doctor_home.empty(path):
        return f"what is in {path} has come as far as its outputs"
    outputs = Outputs(
        kafka=admin.access.config(), flow=flow, schema_ids={}, sealed=bytes, prefix=settings.topics.prefix, start_s=_CALL_S
    )  # fmt: skip
    try:
        former = GuardedSink(outputs).former()  # the first lane is there in every shape of a flow
    except OwnerUnreadable as why:
        raise unseen(str(why)) from why
    if former:
        raise sick(str(StateLost(flow, path, former)), f"or begin anew all the same: {start.again('--from-scratch')}")
    return f"{flow} has never run on these topics"


def _registry(settings: Settings, start: Start) -> str:
    reached = ports.registry(settings, start.base, insecure=start.insecure)
    registry = Registry(reached, call_s=_CALL_S, retries=0)
    registry.wait(_CALL_S, lambda _text: None)
    try:
        ids = subjects.ids(registry, sorted(FLOWS[start.flow].writes), settings.topics.prefix)
    except subjects.NotRegistered as missing:
        raise sick(str(missing), start.beside("schemas", "register")) from missing
    return f"{reached.url} answers, {len(ids)} schemas of ours are registered"


def _clock(settings: Settings, start: Start) -> str:
    reached = ports.registry(settings, start.base, insecure=start.insecure)
    try:
        found = Registry(reached, call_s=_CALL_S, retries=0).apart()
    except (RegistryAway, RegistryRefused) as why:
        raise unseen(f"it is compared with that of the registry: {why}") from why
    if found is None:
        raise unseen("the registry says no time to compare with")
    if abs(found) > _SKEW_S:
        raise sick(f"the clock of this machine is {found:+.1f} s from that of the registry", "let NTP set the clock")
    return f"within {_SKEW_S:.0f} s of that of the registry"
