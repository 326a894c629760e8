"""The directory of one running flow: its owner, its format, its state and its recovery store, as one thing.

    owner.lock   FORMAT   starts.json   <shard>/db/   recovery/

Nothing here starts from scratch in silence: a part that is missing beside one that is there is refused.
"""

import json
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from operators.state.lock import OWNER, Lock
from operators.state.mark import FORMAT, JOINED, MARK, is_first, mark_of, note_joined, put_mark
from operators.state.recovery import Found, RecoveryFault, Row, clean, create, examine
from operators.state.rocks import RocksStore
from operators.state.store import TOGETHER, StateDamaged, StateFault, Token
from operators.state.versions import KEY as TABLES
from operators.state.versions import Reads, noted

Chain = tuple[int, tuple[str, ...]]
"""A step's number in the state, and the shards that it has."""
Key = tuple[int, str]
"""Version and fingerprint of the pseudonym key, under whose hashes everybody is known in a state."""
RECOVERY, _STARTS = "recovery", "starts.json"


class StateLost(StateFault):
    """The flow has run before, and what it knew is not here.

    Args:
        flow: its name.
        path: the state directory.
        claimed: outputs of it that the broker knows claims of; none where the directory itself says that it has run.
    """

    def __init__(self, flow: str, path: Path, claimed: Collection[str] = ()) -> None:
        known = f" on these topics, it has claimed {', '.join(claimed)}" if claimed else f", {path / MARK} says so"
        super().__init__(
            f"{flow} has run before{known}, and its state is not in {path}: put the volume back, or {TOGETHER}."
            " Whoever begins without it forgets every stay, profile and cap, and reads from where start in [kafka] says"
        )


class ForeignState(StateFault):
    """The directory belongs to another flow, or to a deployment of another shape."""


class ChangedShape(ForeignState):
    """It is of this flow, and was begun with another number of processes or shards, or in another format."""


class NoState(StateDamaged):
    """The directory holds something, and nothing that a state would."""


@dataclass
class Checked:
    """What the check of a start found: rows that went, where it resumes, commits walked back by step."""

    fresh: bool = True
    removed: int = 0
    resume_epoch: int = 1
    tokens: dict[str, int] = field(default_factory=dict)
    back: dict[str, int] = field(default_factory=dict)


class Home:
    """Takes the lock and checks the format.

    Args:
        path: the directory.
        flow: name of the flow that lives there.
        processes: of how many processes with state of their own this is one; fixed for the life of the state.
        shards: how many shards it holds; fixed, too.
        key: under which pseudonym key; fixed, too. None looks at a state without asking.

    Raises:
        StateHeld, StateDamaged, ForeignState: nothing was changed.
    """

    def __init__(self, path: Path, flow: str, *, processes: int = 1, shards: int = 1, key: Key | None = None) -> None:
        self.path, self.flow, self._shards = path, flow, shards
        self.lock = Lock(path)
        self._held: list[RocksStore] = []
        try:
            self._checked_format(processes, key)
        except BaseException:
            self.lock.release()
            raise

    @property
    def recovery(self) -> Path:
        """The recovery store."""
        return self.path / RECOVERY

    def _checked_format(self, processes: int, key: Key | None) -> None:
        found = agreed(self.path, self.flow, processes=processes, shards=self._shards)
        if found is None:
            said = {"format": FORMAT, "flow": self.flow, "processes": processes, "shards": self._shards}
            put_mark(self.path, said | _keyed(key))
            return
        if key is None:
            return
        same_key(self.path, found, key)
        if "key_fingerprint" not in found:  # begun before a mark held one
            put_mark(self.path, found | _keyed(key))

    @property
    def first(self) -> bool:
        """Whether no flow has come as far as its outputs from here: whoever has claimed them had another state."""
        return is_first(self.path)

    def joins(self) -> None:
        """Note that the flow is about to claim its outputs."""
        note_joined(self.path)

    def begins(self) -> dict[str, int]:
        """Note a start; how many there were, by cause."""
        starts, ended = self._starts()
        cause = "first" if not starts else "drained" if ended else "crash"
        starts[cause] = starts.get(cause, 0) + 1
        self._note(starts, ended=False)
        return starts

    def ends(self) -> None:
        """Note that the flow has drained."""
        starts, _ = self._starts()
        self._note(starts, ended=True)

    def lend(self) -> None:
        """Let go of the state, so that processes of ours may open it, and keep the lock."""
        for store in self._held:
            store.close()
        self._held.clear()

    def close(self) -> None:
        """Let go of the state and the lock."""
        self.lend()
        self.lock.release()

    def _starts(self) -> tuple[dict[str, int], bool]:
        try:
            noted = json.loads((self.path / _STARTS).read_text())
            return dict(noted["starts"]), bool(noted["ended"])
        except (OSError, ValueError, KeyError, TypeError):
            return {}, False  # a count for people: a lost one stops nothing

    def _note(self, starts: dict[str, int], *, ended: bool) -> None:
        fresh = self.path / f"{_STARTS}.new"
        with suppress(OSError):  # a drain is one also where its note finds no room
            fresh.write_text(json.dumps({"starts": starts, "ended": ended}) + "\n")
            fresh.replace(self.path / _STARTS)

    def checked(self, steps: Mapping[str, Chain], ends: Collection[str], reads: Reads) -> Checked:
        """The check before a start: deletes snapshots that never committed, compares tokens with their stores.

        The databases stay open until `close`, so the flow finds them read. The mark then names every table with the
        versions that the state may hold from now on.

        Args:
            steps: number in the state and shards of every step of the flow, by step id.
            ends: step ids of source and sink.
            reads: versions that this program reads, by step id and table.

        Raises:
            StateFault: with what is wrong and what repairs it; the flow must not start.
        """
        present = has_state(self.path)
        mark = mark_of(self.path) or {}
        said = mark | {TABLES: noted(mark, reads, present=present)}
        if not self.recovery.exists():
            _refuse_loss(self.path, self.flow, mark, present=present)
            create(self.recovery)
            checked = Checked()
        else:
            found, removed = clean(self.recovery)
            checked = Checked(fresh=not found.rows, removed=removed, resume_epoch=found.resume)
            made = stores_of(self.path, self._held, read_only=False)
            compared(found, steps, ends, made, checked, present=present)
        put_mark(self.path, said if checked.fresh else said | {JOINED: True})
        return checked


class Tenancy:
    """A part in a directory that another process of ours holds, has checked, and notes starts and ends of.

    One of those who share it `leads`: it looks for all whether they are the first here.
    """

    def __init__(self, path: Path, *, leads: bool = False) -> None:
        self.path, self._leads = path, leads

    @property
    def first(self) -> bool:
        """See `Home`."""
        return self._leads and is_first(self.path)

    def joins(self) -> None:
        """See `Home`."""
        note_joined(self.path)

    @property
    def recovery(self) -> Path:
        """The recovery store."""
        return self.path / RECOVERY

    def ends(self) -> None:
        """Whoever holds it notes that."""

    def close(self) -> None:
        """Whoever holds it lets go."""


def agreed(path: Path, flow: str, *, processes: int, shards: int) -> dict[str, object] | None:
    """What a directory says of itself, which is of this flow and shape; None when it is fresh. Changes nothing.

    Raises:
        StateDamaged, ForeignState, ChangedShape: it is something else.
    """
    found = mark_of(path)
    if found is None:
        strange = sorted(one.name for one in path.iterdir() if one.name not in {OWNER, f"{MARK}.new"})
        if strange:
            raise unmarked(path, strange)
        return None
    if found.get("format") != FORMAT:
        raise ChangedShape(f"{path} has format {found.get('format')}; this program reads format {FORMAT}")
    if found.get("flow") != flow:
        raise foreign(path, found, flow)
    if found.get("processes") != processes:
        raise ChangedShape(
            f"{path} was begun with --processes {found.get('processes')}, which is fixed for the life of the"
            f" state; got {processes}"
        )
    if found.get("shards", 1) != shards:
        raise ChangedShape(
            f"{path} was begun with shards = {found.get('shards', 1)} in [engine], which is fixed for the life"
            f" of the state; got {shards}"
        )
    return found


def _keyed(key: Key | None) -> dict[str, object]:
    return {} if key is None else {"key_version": key[0], "key_fingerprint": key[1]}


def same_key(path: Path, found: Mapping[str, object], key: Key) -> None:
    """Compare the pseudonym key with that of a directory's mark; a mark of before there was one says nothing.

    Raises:
        ChangedShape: it is another, or goes by another version.
    """
    version, was = found.get("key_version"), found.get("key_fingerprint")
    if was is None or (version, was) == key:
        return
    if was == key[1]:
        what = f"key_version in [pseudonym] is {key[0]}, and {path} was begun with {version} and the same key"
    else:
        what = f"the pseudonym key, version {key[0]}, is not the one that {path} was begun under, version {version}"
    raise ChangedShape(
        f"{what}: everybody in it would be a stranger, with neither consent nor caps. Put key_file and key_version in"
        " [pseudonym] back as they were; a new key is for a new state"
    )


def foreign(path: Path, mark: Mapping[str, object], flow: str) -> ForeignState:
    """What is to be said of the directory of another flow."""
    was = mark.get("flow")
    if was is None:
        return ForeignState(f"{path} is the state of a replay, not of {flow}: name another dir in [state]")
    return ForeignState(f"{path} belongs to flow {was}, not to {flow}: name another dir in [state], or run that flow")


def unmarked(path: Path, names: list[str]) -> StateDamaged:
    """What is to be said of a directory that holds something and no mark."""
    said = f"{path} holds {', '.join(names)} and no FORMAT file: it is no state directory"
    if has_parts(path):
        return StateDamaged(f"{said}, or lost part of itself: {TOGETHER}, or name another dir there")
    return NoState(f"{said}: name another dir in [state]")


def has_parts(path: Path) -> bool:
    """Whether anything here is what a flow would leave: a mark, a recovery store, a database."""
    return (path / MARK).exists() or (path / RECOVERY).exists() or has_state(path)


def has_state(path: Path) -> bool:
    """Whether any shard has a database here."""
    return any(path.glob("*/db/CURRENT"))


def _refuse_loss(path: Path, flow: str, mark: Mapping[str, object], *, present: bool) -> None:
    """Refuse a directory that has lost its recovery store, which is made before a flow comes near its outputs."""
    if present:
        raise RecoveryFault(f"{path / RECOVERY} is missing and there is state beside it: {TOGETHER}")
    if mark.get(JOINED):
        raise StateLost(flow, path)


def stores_of(path: Path, held: list[RocksStore], *, read_only: bool) -> Callable[[int], RocksStore]:
    """Makes the store of a step by its number, to be compared; each is kept in `held`."""

    def made(number: int) -> RocksStore:
        held.append(RocksStore(path, number, read_only=read_only))
        return held[-1]

    return made


def examined(path: Path, steps: Mapping[str, Chain], ends: Collection[str], reads: Reads) -> Checked:
    """The same check as a dry run: nothing is deleted, nothing is walked back. For a flow that is not running."""
    recovery, present, mark = path / RECOVERY, has_state(path), mark_of(path) or {}
    noted(mark, reads, present=present)
    if not recovery.exists():
        _refuse_loss(path, str(mark.get("flow")), mark, present=present)
        return Checked()
    found = examine(recovery)
    checked = Checked(fresh=not found.rows, removed=found.stale, resume_epoch=found.resume)
    held: list[RocksStore] = []
    try:
        compared(found, steps, ends, stores_of(path, held, read_only=True), checked, present=present)
    finally:
        for store in held:
            store.close()
    return checked


def compared(
    found: Found,
    steps: Mapping[str, Chain],
    ends: Collection[str],
    made: Callable[[int], RocksStore],
    checked: Checked,
    *,
    present: bool,
) -> None:
    """Compare the step ids and tokens of a recovery store with the flow and its state; fills `checked`."""
    unknown = sorted({row.step_id for row in found.rows} - set(steps) - set(ends))
    if unknown:
        raise RecoveryFault(
            f"the recovery store holds state of {', '.join(unknown)}, which this flow does not have: it belongs to"
            f" another flow or another version. Run that version, or {TOGETHER}"
        )
    strange = sorted(
        f"{row.step_id}, key {row.key}"
        for row in found.rows
        if row.step_id in steps and row.key not in steps[row.step_id][1]
    )
    if strange:
        raise RecoveryFault(
            f"the recovery store holds state of {'; '.join(strange)}, a shard that this flow does not have: {TOGETHER}"
        )
    rows = {(row.step_id, row.key): row for row in found.rows if row.step_id in steps}
    if not present:
        if any(_token(row)[2] for row in rows.values()):
            raise RecoveryFault(f"the recovery store says that there is state, and there is none beside it: {TOGETHER}")
        return
    for step_id, (number, shards) in steps.items():
        for shard in shards:
            row = rows.get((step_id, shard))
            token = None if row is None else _token(row)
            store = made(number)
            store.claim(token)
            at, back = store.stands(shard)
            where = step_id if len(shards) == 1 else f"{step_id} {shard}"
            if row is None and at > 1:  # a crash in the first epoch that touched the step leaves one commit
                raise RecoveryFault(
                    f"the state of {where} stands at commit {at} and the recovery store knows nothing of it: {TOGETHER}"
                )
            checked.tokens[where] = at - back
            checked.back[where] = back


def _token(row: Row) -> Token:
    value = row.value
    if (
        not isinstance(value, tuple)
        or len(value) != 3
        or value[0] != row.key
        or not (isinstance(value[1], bytes) and isinstance(value[2], int))
    ):
        raise RecoveryFault(
            f"the recovery store holds no token of this program under {row.step_id}, key {row.key}: {TOGETHER}"
        )
    return value[0], value[1], value[2]
