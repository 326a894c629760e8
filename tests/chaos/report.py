"""RELIABILITY.md from the results that are kept: `python -m tests.chaos.report`; with `--check` only compared."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.chaos.tables import LEFT_OUT

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).parent / "results"
PAGE = ROOT / "RELIABILITY.md"
MUTANTS = (
    ("stock sink in place of ours", "tests/chaos/mutated.py", "", "`make chaos R=R22`: the kill loop on a broker"),
    ("naive read-back: the snapshot is the end of the topic", "tests/broker/test_sink.py",
     "test_a_snapshot_of_the_end_would_double", "`make chaos R=R22`: double crashes of `activation` on a broker and a mock cluster"),
    ("end of a topic by a count of messages", "tests/broker/test_sink.py",
     "test_a_count_of_messages_in_place_of_the_end_never_ends", ""),
    ("swallowed delivery error", "tests/broker/test_sink.py", "test_a_swallowed_delivery_error_would_lose", ""),
    ("no claim on the outputs", "tests/broker/test_sink.py", "test_without_a_claim_an_idempotent_zombie_goes_on", ""),
    ("no recovery check", "tests/unit/test_recovery.py", "test_mutant_without_the_check_it_is_refused", ""),
    ("execution left out of the token, and no check", "tests/unit/test_recovery.py",
     "test_mutant_without_check_and_execution_it_counts_twice", ""),
    ("token ignored", "tests/contract/test_stores.py", "test_the_model_catches_a_token_that_is_ignored",
     "`make chaos R=R22`: the kill loop on files"),
    ("spilled parts undone oldest first", "tests/contract/test_stores.py",
     "test_the_model_catches_parts_undone_oldest_first", ""),
    ("changes committed and never undone", "tests/chaos/worker.py", "", "`make chaos R=R22`: the kill loop on files"),
    ("scan without `status()`", "tests/unit/test_mutants.py", "test_mutant_a_scan_that_does_not_ask_for_its_status", ""),
    ("swallowed decode error", "tests/unit/test_mutants.py", "test_mutant_a_swallowed_decode_error", ""),
    ("a due `notify_at` on resume", "tests/unit/test_mutants.py",
     "test_mutant_a_timer_that_is_due_when_a_shard_resumes", ""),
    ("a shard is discarded", "tests/unit/test_mutants.py", "test_mutant_a_shard_that_is_discarded", ""),
    ("the end of input closes stays", "tests/unit/test_mutants.py", "test_mutant_the_end_of_input_ends_something", ""),
    ("offset of what was fetched, not of what was handed on", "tests/broker/test_source.py",
     "test_mutant_offset_of_what_was_fetched", ""),
    ("a wait that looks at no timer", "tests/broker/test_source_backlog.py",
     "test_mutant_a_wait_that_looks_at_no_timer", ""),
    ("a clock that runs ahead of the backlog", "tests/broker/test_source_backlog.py",
     "test_mutant_a_clock_that_runs_ahead_of_the_backlog", ""),
    ("rows handed on in an epoch that their lane has closed", "tests/broker/test_source_epochs.py",
     "test_mutant_rows_are_handed_on_in_an_epoch_that_their_lane_has_closed", ""),
    ("rows of a moment handed on lane by lane", "tests/unit/test_hands.py",
     "test_mutant_lane_by_lane_a_probation_ends_before_another_and_readings_are_late", ""),
    ("events worked on before the person they are about is there", "tests/flow/test_shards.py",
     "test_mutant_events_that_do_not_wait_for_who_is_on_the_way", ""),
    ("a parcel between shards that is not sent again", "tests/flow/test_shards.py",
     "test_mutant_a_parcel_that_is_not_sent_again", ""),
    ("somebody handed over twice", "tests/flow/test_shards.py", "test_mutant_somebody_who_is_given_twice", ""),
    ("a table left behind when somebody moves", "tests/flow/test_shards.py",
     "test_mutant_a_state_that_is_left_behind", ""),
    ("assignments published by home", "tests/flow/test_shards.py", "test_mutant_assignments_that_go_by_home", ""),
    ("offsets that reset themselves", "tests/broker/test_source_refuses.py",
     "test_mutant_offsets_that_reset_themselves", ""),
)  # fmt: skip
"""A bug put back; the file and the test that fails with it; what else notices it."""
TITLES = {
    "R1": "SIGKILL at random moments",
    "R2": "SIGKILL again, right after each resume",
    "R3": "Zombie: stopped, succeeded on a copy of its state, woken",
    "R4": "Broker killed and started again, and once away for long",
    "R5": "Errors from the broker, passing ones all the time, and some that no client survives",
    "R16": "SIGTERM under load",
    "R22": "Bugs put back",
    "restart": "A million profiles in the state, SIGKILL, start",
}
HEAD = """# Reliability

What was done to Footfall, and what became of it. This page is written by `python -m tests.chaos.report` from the files
in `tests/chaos/results`; each is the outcome of one command, with its seed, commit and machine. Nothing stands here
that was not run; what was not is at the end.

*Lost*, *doubled* and *invented* count ids on the outputs (`read_committed`) against what must be there:

* `activation`: an oracle of its own (`tests/chaos/expected.py`), which reads the rows of a seeded crowd and works out every
  decision with its verdict, and every action; it has no core in common with the flow. What the flow remembers is compared
  key by key with what an undisturbed run over the same rows remembers. Rows are paced by acknowledgement: a wave is said
  when all before it is durable, and before each kill nearly all that was let go.
* `presence`: stays that are known by construction (`tests/chaos/strollers.py`).
* `store`, on files: an undisturbed run, byte for byte and key for key of the state; on a broker: a replay of the same rows
  from files, with no broker, recovery or sink in common with what is tested.
"""
LIMITS = """
## What was not run, or is not covered

* What a mock cluster (*mock*: the one in the client's library) cannot show: fencing, as it shuts nobody out; `read_committed`,
  as it shows aborted records to everybody, our read-back among them; and latency. It has no controller, so that ids and
  settings of topics, and their making, are answered beside it (`tests/broker/mock.py`); records, offsets, transactions and
  `ListOffsets` are its own. It keeps 5 MiB of a partition: topics have 16 or more of them there.
* The state of `store` and `presence` on a broker is not compared key by key: that is done for `activation`, and for `store`
  on files. Of `activation` these tables are left out, since they hold clocks or numbers of rows: {left}.
* In R2 of `activation` on a broker the epochs of two lives differ, 2 s and 100 ms, so that what the first said and did not make durable
  is said again over many epochs. The built states of stale snapshots are in `tests/unit/test_recovery.py`.
* The crowd's people are spaced so that what depends on order comes in order: a merge, a refusal or a new tier in a wave of its
  own. What happens when they race is not predicted here.
* On a broker the derived records of `store` are compared by id, up to 20 s before the shop closes; dead letters by their
  number, late rows not at all. Its reference is a replay by the same cores: it shows what recovery, source and sink do.
* Three brokers, replication, network disks, power loss, a full disk under load (R7), 24 hours.
* In R3 records of wide outputs that a stopped process had already handed to its client go out when it wakes: they are
  counted as doubled (wide). Commands are written in transactions, which the successor ends: none may be doubled. Every
  zombie here met the successor's claim first; that the broker alone shuts one out is shown in `tests/broker/test_sink.py`.
* In R4 of `store` the day is on the broker before. What sensors say while it is away, and how late that comes, is not compared. That
  decisions take no longer than before, soon after it is back, is shown by `make bench B=outage`.
* R2 of `activation` on a broker has half the people of the fault table's size, and all of its crashes. On files there is one process.
* Where it says "ended at commit", others worked on the same files while it ran, and each process started from what lay
  there at that moment: earlier ones from earlier commits. A + behind a commit says that files differed from it.
* Results of commits before `fedc195` are of one lane; later ones are of two.
* Sensors are honest and nothing is late in these runs, so that a replay and a live run must say the same.
"""


def results() -> list[dict[str, Any]]:
    """What is kept, by row, backend and form."""
    found = [json.loads(path.read_text()) for path in RESULTS.glob("*.json")]
    order = list(TITLES)
    return sorted(
        found,
        key=lambda one: (order.index(one["row"]), one["backend"], _flow(one), one["form"], one["seed"]),
    )


def _flow(one: dict[str, Any]) -> str:
    """Whose processes were disturbed; earlier results are all of `store`."""
    several = one.get("processes", 1)
    return str(one.get("flow", "store")) + (f", {several} processes" if several > 1 else "")


def _overview(found: list[dict[str, Any]]) -> Iterator[str]:
    yield "| Row | Flow | On | Form | Done | Events | Compared | Lost | Doubled | Invented | |"
    yield "|---|---|---|---|---|---|---|---|---|---|---|"
    for one in found:
        if one["row"] in {"R22", "restart"}:
            continue
        doubled = one["doubled"]
        if one["row"] == "R3":
            doubled = f"{one['topics']['action.command']['doubled']} commands, {one['doubled_wide']} wide"
        done = next(
            f"{one[name]:,} {told}"
            for name, told in (
                ("zombies", "zombies"), ("broker_kills", "broker kills"), ("drains", "drains"), ("answered", "errors"), ("kills", "kills"),
            )
            if name in one
        )  # fmt: skip
        yield (
            f"| {one['row']} {TITLES[one['row']]} | {_flow(one)} | {one['backend']} | {one['form']} | {done} |"
            f" {one['events']:,} | {_compared(one)} | {one['lost']} | {doubled} | {one['invented']} | {_verdict(one)} |"
        )


def _compared(one: dict[str, Any]) -> str:
    return f"{one['actions']:,} actions" if "actions" in one else f"{one['wanted']:,} records"


def _verdict(one: dict[str, Any]) -> str:
    return "passed" if one["passed"] else "**failed**"


def _range(told: dict[str, float]) -> str:
    return f"{told['least']} / {told['median']} / {told['greatest']} s"


def _said(one: dict[str, Any]) -> Iterator[str]:
    """What a result says beside the counts."""
    if "first_batch_s" in one and "least" in one["first_batch_s"]:
        yield f"start of the process to its first batch, least / median / greatest: {_range(one['first_batch_s'])}"
    if one.get("kills_in_flow"):
        yield f"{one['kills_in_flow']} of {one['kills']} kills met a flow that had begun; the others, if any, a start"
    if "of_child" in one or "of_supervisor" in one:
        yield f"killed: a child {one.get('of_child', 0)} times, the supervisor {one.get('of_supervisor', 0)} times"
    if "in_flow" in one:
        yield f"{one['in_flow']} of {one['kills']} kills met processes that had all begun; the others a start"
    if "right_after_a_resume" in one:
        yield f"killed right after a resume: {one['right_after_a_resume']:.0f} times"
    if "written_at_last" in one:
        yield f"of what an undisturbed run writes stood at the last of them: {one['written_at_last']:.0%}"
    if "errors" in one:
        yield "errors answered: " + ", ".join(f"{name} {count:,}" for name, count in sorted(one["errors"].items()))
        yield "starts that ended: " + (
            "; ".join(f"{count} by {told}" for told, count in one["stops"].items()) or "none"
        )
    if one.get("within_2_s_of_a_resume"):
        yield f"killed within 2 s of a resume: {one['within_2_s_of_a_resume']} times"
    if "durable_at_last_kill" in one:
        share = one["durable_at_last_kill"] / one["events"]
        yield f"rows durable at the last kill: {one['durable_at_last_kill']:,}, {share:.0%} of all"
    for at in ("kill", "drain"):
        if f"rows_not_durable_at_{at}" not in one:
            continue
        told = one[f"rows_not_durable_at_{at}"]
        yield f"rows said and not durable at a {at}, least / median / greatest: {' / '.join(f'{told[name]:,.0f}' for name in told)}"
    if isinstance(one.get("decisions"), dict):
        told = one["decisions"]
        wrong = ", ".join(
            f"{told[name]} {name.replace('_', ' ')}" for name in ("lost", "doubled", "invented", "verdict_differs")
        )
        yield f"{told['wanted']:,} decisions with their verdicts: {wrong}"
        yield "verdicts: " + ", ".join(f"{name} {count:,}" for name, count in told["verdicts"].items())
    if "oracle" in one:
        told = one["oracle"]
        yield (
            f"against the oracle: {told['decisions']:,} decisions, {told['decisions_differ']} differ,"
            f" {told['decisions_doubled']} doubled; {told['actions']:,} actions, {told['lost']} lost, {told['invented']} invented"
        )
    if "calm" in one:
        yield f"the undisturbed run said what it must: {'yes' if one['calm']['as_expected'] else 'no'}"
    if "walked_back" in one:
        yield f"commits walked back {one['walked_back']}, stale rows of the recovery store removed {one['rows_removed']}"
    if "outputs_not_written_twice" in one:
        yield f"outputs that a replay said again and the sink did not: {one['outputs_not_written_twice']:,}"
    if "wanted" in one:
        yield f"{one['wanted']:,} derived records compared, on {len(one['topics'])} topics"
    if "keys" in one and isinstance(one["keys"], int):
        yield f"{one['keys']:,} keys of the state compared, {one['keys_differ']} differ"
    if "files_differ" in one:
        yield f"files that differ: {len(one['files_differ'])}"
    if one["row"] == "R3":
        yield f"{one['fenced']} of {one['zombies']} ended with exit code 1, after {_range(one['until_it_ended_s'])}"
        yield "a second start on the same directory was refused: " + ("yes" if one["same_directory_refused"] else "no")
    if one["row"] == "R4":
        yield f"one start throughout: {'yes' if one['survived'] else 'no'}; longest outage {one['longest_outage_s']} s"
        yield f"from the broker's first answer to the next durable epoch: {_range(one['resumed_s'])}"
        asked = ", ".join(f"{code} {times} times" for code, times in one["live"].items())
        yield f"`/live` answered {asked}, in {one['live_slowest_s']} s at most"
    if "drain_s" in one and isinstance(one["drain_s"], dict):
        yield f"drained in {_range(one['drain_s'])}, exit codes {one['codes']}, replayed {one['replayed']:.0f}"
    elif "slowest_drain_s" in one and one["row"] == "R16":
        yield f"slowest drain {one['slowest_drain_s']} s; {one['drains_ended_well']} of {one['drains']} ended with 0"
    if one["row"] == "restart":
        best = one["first_batch_s"]
        yield f"{one['profiles']:,} profiles, {one['state_mib']} MiB of state; RSS {one['rss_mib']} MiB"
        yield f"first batch after {best['best']} / {best['median']} / {best['worst']} s; the gate is {one['gate_s']} s"
        if "processor_s" in one:
            yield f"processor time of those starts: {one['processor_s']} s, at load {one['load']:.1f}"
        yield f"rows in the recovery store: {one['recovery_rows']}, wanted {one['recovery_rows_wanted']}"
    if one["row"] == "R22":
        for name, told in one["mutants"].items():
            wrong = f"lost {told['lost']}, doubled {told['doubled']}, invented {told['invented']}"
            wrong += f", decisions doubled {told['decisions_doubled']}" if "decisions_doubled" in told else ""
            yield f"{name}: {wrong}, after {told['kills']} kills: noticed"
    if one.get("refused"):
        yield f"refused: {one['refused']}"


def _each(found: list[dict[str, Any]]) -> Iterator[str]:
    for one in found:
        machine = one["machine"]
        target = "chaos-long" if one["form"] == "long" else "chaos"
        on = {"kafka": "a broker", "mock": "a mock cluster"}.get(one["backend"], "files")
        yield f"\n### {one['row']} of {_flow(one)} on {on}, {one['form']} form, seed {one['seed']}: {_verdict(one)}\n"
        yield f"`make {target} R={one['row']} SEED={one['seed']}{_words(one)}`, {one['total_seconds']:.0f} s, {_of(one)};"
        yield f"{machine['cores']} cores ({machine['cpu']}), Python {machine['python']}, load {machine['load']:.1f} when it ended.\n"
        yield from (f"* {said}" for said in _said(one))


def _words(one: dict[str, Any]) -> str:
    """What chooses this way to run a row; earlier results had none."""
    if "flow" not in one:
        return ""
    several = f" --processes {one['processes']}" if "processes" in one else ""
    of_table = 20_500 if one["row"] == "R1" else 4_000
    fewer = (
        one["form"] == "long"
        and one["flow"] == "activation"
        and one["backend"] in {"kafka", "mock"}
        and one.get("people", of_table) != of_table
    )
    few = f" --people {one['people']}" if fewer else ""
    return f' ARGS="--on {one["backend"]} --flow {one["flow"]}{several}{few}"'


def _of(one: dict[str, Any]) -> str:
    """Which program that was; results from before both commits were noted have the later one."""
    after = one.get("commit_after")
    if after is None:
        return f"ended at commit {one['commit']}"
    return f"commit {one['commit']}" + (f", at its end {after}" if after != one["commit"] else "")


def page() -> str:
    """The whole page."""
    found = results()
    lines = [HEAD, *_overview(found), "\n## Each run", *_each(found), "\n## Bugs put back (R22)\n"]
    lines += ["Each of these makes a test fail; the test named puts the bug back and says so.\n"]
    lines += ["| Bug | Test | Also |", "|---|---|---|"]
    for bug, path, test, also in MUTANTS:
        lines.append(f"| {bug} | `{path}{'::' + test if test else ''}` | {also} |")
    left = "; ".join(f"`{step}` {table} ({why})" for (step, table), why in LEFT_OUT.items())
    return "\n".join([*lines, LIMITS.format(left=left)])


def main() -> int:
    written = PAGE.read_text() if PAGE.exists() else ""
    if "--check" in sys.argv:
        if written != page():
            print("RELIABILITY.md is not what the results say: python -m tests.chaos.report", file=sys.stderr)
            return 1
        return 0
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
