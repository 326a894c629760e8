"""The pointers of all identifiers, as trees; each root with what hangs below it is a profile.

A pointer goes from an identifier to a stronger one, so there are no cycles and no component that explodes.
What one identifier knows is in `evidence`; here is only how they hang together.
"""

import heapq
from collections.abc import Iterable
from functools import lru_cache

import msgspec

from operators.identities.evidence import DAY_US, Linking, Pointer, Seen, StitchRule, Tie, bucket, namespace, points_to
from operators.state.store import Table, Tables
from schemas.items import Member, Person

_NOT_SEEN = 1 << 62


class Node(msgspec.Struct, array_like=True):
    """An identifier: its evidence, its pointer, who points here, and what was last published of it."""

    seen: Seen = msgspec.field(default_factory=Seen)
    ties: list[Tie] = []
    linking: Linking = msgspec.field(default_factory=Linking)
    first_seen: int | None = None
    """Sensor readings do not count."""
    pointer: Pointer | None = None
    below: dict[str, int] = {}
    """Weaker identifiers that hold evidence towards this one, whether or not they point here."""
    crowded: bool = False
    person: str = ""
    root: str = ""
    state: str = ""
    inferred: bool = False
    version: int = 0
    full: bool = False
    """A root that a limit refused something: there, weights decide who stays."""
    facts: bool = False
    """An event was credited to it: its person has a profile."""
    changes: int = 0


class Forest:
    """All identifiers of a shard.

    Whatever changes what an identifier points to is noted; `settle` then says how the persons concerned
    stand. `crowds` holds identifiers that came to tie nothing any more, until somebody reads it.
    """

    def __init__(self, rule: StitchRule, tables: Tables) -> None:
        self._rule = rule
        self._nodes: Table[Node] = tables.table(1, Node)
        self._ends: Table[str] = tables.table(2, str)
        self._due = [(int(key.split(" ", 1)[0]), child) for key, child in self._ends.items()]
        heapq.heapify(self._due)
        self._clock = 0
        self.rank = lru_cache(1 << 17)(rule.rank)
        self._moved: dict[str, None] = {}
        self.crowds: list[str] = []

    def node(self, identifier: str) -> Node | None:
        """What is known of an identifier."""
        return self._nodes.get(identifier)

    def keep(self, identifier: str, node: Node) -> None:
        """Say that a node was changed."""
        self._nodes.put(identifier, node)

    def meet(self, identifier: str, at: int | None) -> Node:
        """The node of an identifier that an event names; `at` when it counts as seen."""
        node = self._nodes.get(identifier)
        if node is None:
            node = Node()
            self._moved[identifier] = None
        elif at is None or (node.first_seen is not None and node.first_seen <= at):
            return node
        if at is not None:
            node.first_seen = at
            self._moved[identifier] = None  # it may be the first of its person now
        self._nodes.put(identifier, node)
        return node

    def knows(self, identifiers: list[str], mark: int) -> bool:
        """Whether all of them were met together before, in this bucket; strongest first."""
        for n, weak in enumerate(identifiers[1:], 1):
            seen = self._known(weak).seen
            for strong in identifiers[:n]:
                if namespace(strong) == namespace(weak) or seen.knows(strong, mark):
                    continue
                if not seen.hub or weak not in self._known(strong).below:
                    return False
        return True

    def see(self, identifiers: list[str], mark: int) -> None:
        """Note that known identifiers were seen together; strongest first."""
        for n, weak in enumerate(identifiers[1:], 1):
            node, changed = self._known(weak), False
            for strong in identifiers[:n]:
                if namespace(strong) == namespace(weak):
                    continue
                crowded = self._below(strong, weak).crowded
                changed = node.seen.note(strong, mark, self._rule, crowded=crowded) or changed
            if changed:
                if node.seen.hub:
                    self.crowds.append(weak)
                self._nodes.put(weak, node)
                self._repoint(weak)

    def tie(self, weak: str, tie: Tie) -> None:
        """Keep what the shop said of two known identifiers, on the weaker one."""
        node = self._known(weak)
        if any((one.time, one.id, one.to) == (tie.time, tie.id, tie.to) for one in node.ties):
            return
        self._below(tie.to, weak)
        node.ties.append(tie)
        node.ties.sort(key=lambda one: (one.time, one.id))
        self._nodes.put(weak, node)
        for at in (tie.valid_from, tie.valid_to):
            if at is not None and at > self._clock:
                self._ends.put(f"{at:020d} {weak}", weak)
                heapq.heappush(self._due, (at, weak))
        self._repoint(weak)

    def next_due(self, clock: int) -> int | None:
        """The next instant up to `clock` at which a tie begins or ends; the forest's own clock stands there then."""
        if not self._due or self._due[0][0] > clock:
            self._clock = max(self._clock, clock)
            return None
        at = self._due[0][0]
        self._clock = max(self._clock, at)
        while self._due and self._due[0][0] == at:
            _, weak = heapq.heappop(self._due)
            self._ends.put(f"{at:020d} {weak}", None)
            self._repoint(weak)
        return at

    def void(self, identifiers: Iterable[str], before: int) -> None:
        """Drop the evidence between these identifiers and any other from before an instant, for good."""
        for identifier in identifiers:
            node = self._known(identifier)
            node.linking.void = max(node.linking.void, before)
            self._nodes.put(identifier, node)
            cut = node.linking.cut
            for strong in [*node.seen.edges, *(tie.to for tie in node.ties)]:
                self._cut(identifier, strong, cut)
            for weak in list(node.below):
                self._cut(weak, identifier, cut)

    def root(self, identifier: str) -> str:
        """The end of an identifier's chain of pointers."""
        while (pointer := self._known(identifier).pointer) is not None:
            identifier = pointer.to
        return identifier

    def settle(self) -> list[Person]:
        """Every person in a tree where something moved since the last call, in order of their roots."""
        if not self._moved:
            return []
        roots = {self.root(identifier) for identifier in self._moved}
        self._moved.clear()
        found = []
        for root in sorted(roots, key=self.rank):
            persons = self.persons(root)
            node = self._known(root)
            if node.full != (len(persons) > 1):
                node.full = not node.full
                self._nodes.put(root, node)
            found += persons
        return found

    def persons(self, root: str) -> list[Person]:
        """The profiles of a tree. Identifiers beyond a limit are their own, with what hangs below them."""
        tree = self._tree(root)
        if len(tree) == 1:
            return [Person(root, root, (Member(root),))]
        by_namespace: dict[str, list[str]] = {}
        for identifier in tree:
            by_namespace.setdefault(namespace(identifier), []).append(identifier)
        limits = self._rule.limits
        if all(len(found) <= limits.get(name, 1) for name, found in by_namespace.items()):
            return [self._person(root, sorted(tree, key=self.rank))]
        home = self._homes(root, by_namespace)
        members: dict[str, list[str]] = {}
        for identifier in sorted(home, key=self.rank):
            members.setdefault(home[identifier], []).append(identifier)
        return [self._person(profile, found) for profile, found in members.items()]

    def _homes(self, root: str, by_namespace: dict[str, list[str]]) -> dict[str, str]:
        """The profile of each identifier of a tree; the strongest first, since what hangs below goes along."""
        rule = self._rule
        home = {root: root}
        for name in sorted(by_namespace, key=rule.priority.__getitem__):
            wanting: dict[str, list[tuple[bool, float, int, str]]] = {}
            inside: list[tuple[str, str]] = []
            for identifier in by_namespace[name]:
                pointer = self._known(identifier).pointer
                if pointer is None:
                    continue
                if namespace(pointer.to) == name:  # one account, said the shop: it counts with the other
                    inside.append((identifier, pointer.to))
                    continue
                strength = (pointer.asserted, pointer.weight, pointer.newest, identifier)
                wanting.setdefault(home[pointer.to], []).append(strength)
            for profile, many in wanting.items():
                room = rule.limits.get(name, 1) - (namespace(profile) == name)
                for n, (*_, identifier) in enumerate(sorted(many, reverse=True)):
                    home[identifier] = profile if n < room else identifier
            for identifier, to in sorted(inside, key=lambda pair: self.rank(pair[0])):
                home[identifier] = home[to]
        return home

    def _person(self, profile: str, members: list[str]) -> Person:
        inferred: dict[str, bool] = {}
        anchor, earliest = profile, _NOT_SEEN + 1
        for identifier in members:  # strongest first: what one points to stands before it
            node = self._known(identifier)
            if identifier == profile:
                inferred[identifier] = False
            else:
                assert node.pointer is not None
                inferred[identifier] = not node.pointer.asserted or inferred[node.pointer.to]
            first = _NOT_SEEN if node.first_seen is None else node.first_seen
            if first < earliest and (namespace(identifier) != "tag" or len(members) == 1):
                anchor, earliest = identifier, first
        return Person(profile, anchor, tuple(Member(one, inferred[one]) for one in members))

    def _known(self, identifier: str) -> Node:
        node = self._nodes.get(identifier)
        assert node is not None, "an identifier is met before it is used"
        return node

    def _tree(self, root: str) -> list[str]:
        found = [root]
        for identifier in found:  # grows while it is read
            for weak in self._known(identifier).below:
                pointer = self._known(weak).pointer
                if pointer is not None and pointer.to == identifier:
                    found.append(weak)
        return found

    def _below(self, strong: str, weak: str) -> Node:
        node = self._known(strong)
        if weak not in node.below:
            node.below[weak] = 0
            self._nodes.put(strong, node)
            if len(node.below) > self._rule.max_below and not node.crowded:
                node.crowded = True
                self.crowds.append(strong)
                for one in node.below:
                    held = self._known(one)
                    if strong in held.seen.edges:
                        held.seen.edges[strong] = []
                        self._nodes.put(one, held)
                        self._repoint(one)
        return node

    def _cut(self, weak: str, strong: str, cut: int) -> None:
        node = self._known(weak)
        last = bucket(cut - 1, 0) + bucket(DAY_US, 0) - 1  # buckets know the day: that of the cut goes whole
        marks = [mark for mark in node.seen.edges.get(strong, []) if mark > last]
        if marks:
            node.seen.edges[strong] = marks
        else:
            node.seen.edges.pop(strong, None)
        node.ties = [tie for tie in node.ties if tie.to != strong or tie.revoked or tie.time >= cut]
        if not marks and all(tie.to != strong for tie in node.ties):
            above = self._known(strong)
            above.below.pop(weak, None)
            self._nodes.put(strong, above)
        self._nodes.put(weak, node)
        self._repoint(weak)

    def _repoint(self, identifier: str) -> None:
        node = self._known(identifier)
        pointer = points_to(identifier, node.seen, node.ties, self._clock, self._rule)
        old = node.pointer
        if pointer == old:
            return
        same = pointer is not None and old is not None and (pointer.to, pointer.asserted) == (old.to, old.asserted)
        if not same or self._known(self.root(identifier)).full:
            self._moved[identifier] = None
            if old is not None:
                self._moved[old.to] = None  # the tree it may leave
        node.pointer = pointer
        self._nodes.put(identifier, node)
