"""The command line. Exit codes: 0 done, 1 the work failed, 2 wrong use (refused before any work).

`--json` goes to stdout and nothing else does; everything else goes to stderr.
"""

import gc
import inspect
import sys
from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from flows.settings import SHARING, WrongUse

if TYPE_CHECKING:  # a worker draws nothing, and starts the sooner
    from rich.console import Console

app = typer.Typer(
    name="footfall",
    help="Turns what a shop hears into what a shop does, while the customer is still standing there.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)
schemas_app = typer.Typer(help="The contract: topics and their records.", no_args_is_help=True)
campaign_app = typer.Typer(help="Check campaigns, and ask why somebody got one, or did not.", no_args_is_help=True)
identity_app = typer.Typer(help="What an identifier is called inside.", no_args_is_help=True)
train_app = typer.Typer(help="Train models on a replay.", no_args_is_help=True)
letters_app = typer.Typer(help="Refused messages: open them for repair.", no_args_is_help=True)
topics_app = typer.Typer(help="Topics on a broker.", no_args_is_help=True)
app.add_typer(schemas_app, name="schemas")
app.add_typer(topics_app, name="topics")
app.add_typer(campaign_app, name="campaign")
app.add_typer(identity_app, name="identity")
app.add_typer(train_app, name="train")
app.add_typer(letters_app, name="dead-letter")


class FlowName(StrEnum):
    """Flows that can be replayed."""

    presence = "presence"
    activation = "activation"
    store = "store"


class Format(StrEnum):
    """How topics are written."""

    jsonl = "jsonl"
    avro = "avro"


class Order(StrEnum):
    """How rows are merged."""

    ingest = "ingest"
    event = "event"


class End(StrEnum):
    """What the end of a replay closes."""

    close = "close"
    keep = "keep"
    all = "all"


Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else there.")]
Config = Annotated[Path | None, typer.Option("--config", help="Settings file; default: footfall.toml of the input.")]
In = Annotated[Path, typer.Option("--in", help="Directory to read.")]
Out = Annotated[Path, typer.Option("--out", help="Directory to write.")]


def _json(value: Any) -> None:
    sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


@cache
def _err() -> "Console":
    """Stderr, for people."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def _say(text: str) -> None:
    _err().print(text, soft_wrap=True, markup=False)


@contextmanager
def _bar(what: str) -> Iterator[Any]:
    """A progress bar on a terminal; nothing elsewhere."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    err = _err()
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@app.command()
def demo(
    headless: Annotated[bool, typer.Option("--headless", help="No picture.")] = False,
    seconds: Annotated[int, typer.Option(min=5, help="How long the shop is open.")] = 60,
    forever: Annotated[bool, typer.Option("--forever", help="Until Ctrl-C.")] = False,
    seed: Annotated[int | None, typer.Option(help="Another simulated shop.")] = None,
    as_json: Json = False,
) -> None:
    """See "Hi Ana" appear: a simulated shop, live, with no services.

    Example: footfall demo --headless --seconds 20 --json
    """
    from flows.demo import run

    summary = run(seconds=None if forever else seconds, seed=seed, headless=headless or as_json, quiet=as_json)
    if as_json:
        _json(summary)


@app.command()
def replay(
    source: In,
    out: Out,
    flow: Annotated[FlowName, typer.Option(help="Which flow.")] = FlowName.store,
    fmt: Annotated[Format, typer.Option("--format", help="How topics are written.")] = Format.jsonl,
    order: Annotated[Order, typer.Option(help="Merge rows as they were heard, or as they happened.")] = Order.ingest,
    end: Annotated[
        End, typer.Option(help="close: stays end as in silence; keep: nothing; all: timers ring too.")
    ] = End.close,
    deliver: Annotated[bool, typer.Option("--deliver", help="Write delivered.jsonl: it holds personal text.")] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Run a flow over a directory of topics; the same bytes every time.

    Example: footfall replay --in flows/example/day --out out --deliver
    """
    from rich.table import Table

    from flows.replay import Options
    from flows.replay import replay as run

    options = Options(
        source=source,
        out=out,
        flow=flow.value,
        format=fmt.value,
        order=order.value,
        end=end.value,
        deliver=deliver,
        config=config,
    )
    with _bar("replay") as progress:
        summary = run(options, progress, _say)
    if as_json:
        _json(summary)
        return
    table = Table("topic", "read", "applied", "duplicate", "late", "dead", title=f"{flow.value}: rows in")
    for topic, fates in summary["in"].items():
        table.add_row(topic, *(f"{fates[name]:,}" for name in ("read", "applied", "duplicate", "late", "dead")))
    _err().print(table)
    table = Table("topic", "rows", title=f"rows out, in {out}")
    for topic, rows in summary["out"].items():
        table.add_row(topic, f"{rows:,}")
    _err().print(table)
    _err().print(f"{summary['seconds']} s, {summary['events_per_s']:,} events/s; summary.json holds the digests")


def _words_of_run(words: list[str]) -> Namespace:
    """Read what `run` was asked with the standard library: typer reads with pydantic, a tenth of a start."""

    def count(text: str) -> int:
        if not text.isdecimal() or int(text) < 1:
            raise ArgumentTypeError(
                f"must be 1 or more: up to lanes in [engine] for presence, up to {SHARING} for activation with shards;"
                f" got {text!r}"
            )
        return int(text)

    def loss(text: str) -> str:
        topic, _, number = text.rpartition(":")
        if not topic or not number.isdecimal():
            raise ArgumentTypeError(f"must be TOPIC:PARTITION, such as sensing.position:3; got {text!r}")
        return f"{topic}:{int(number)}"

    ask = ArgumentParser(
        "footfall run",
        description=inspect.cleandoc(run.__doc__ or ""),
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    ask.add_argument("flow", choices=[flow.value for flow in FlowName], help="Which flow.")
    ask.add_argument("--config", type=Path, required=True, help="Settings file; venue, rules and models lie beside it.")
    ask.add_argument(
        "--processes",
        type=count,
        default=1,
        help="Processes that split the lanes of presence, up to [engine] lanes, fixed for the life of its state; or"
        f" that share the shards of activation, up to {SHARING}, another number at each start if you like.",
    )
    ask.add_argument("--process", type=int, help=SUPPRESS)
    ask.add_argument("--from-scratch", action="store_true", help="Move the old state aside and begin anew.")
    ask.add_argument(
        "--accept-loss",
        type=loss,
        action="append",
        default=[],
        metavar="TOPIC:PARTITION",
        help="TOPIC:PARTITION whose lost rows are written off; may be given again.",
    )
    ask.add_argument("--insecure", action="store_true", help="Allow plaintext beyond this machine.")
    return ask.parse_args(words)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,
)
def run(context: typer.Context) -> None:
    """Run a flow on live topics until SIGTERM drains it: 0 drained, 1 the work failed, 2 wrong use.

    Example: footfall run store --config footfall.toml
    """
    raise typer.Exit(_run(context.args))


def _run(words: list[str]) -> int:
    asked = _words_of_run(words)
    gc.disable()  # what modules make stays: the collector would walk it again and again
    from flows.causes import journal
    from flows.joining import kafka
    from flows.run import run as begin
    from flows.start import Start
    from flows.supervise import supervise

    gc.freeze()
    gc.enable()
    start = Start(
        flow=asked.flow,
        config=asked.config,
        processes=asked.processes,
        process=asked.process,
        from_scratch=asked.from_scratch,
        insecure=asked.insecure,
        accept_loss=tuple(asked.accept_loss),
    )
    try:
        return (supervise if start.processes > 1 and start.process is None else begin)(start, kafka)
    except Exception as error:
        if _refuses(error):  # to whoever reads the log; `main` says it to whoever typed the command
            journal(flow=start.flow, process=start.process).critical("refused", cause=str(error), code=2)
        raise


@app.command()
def doctor(
    config: Annotated[Path, typer.Option("--config", help="Settings file.")],
    flow: Annotated[
        FlowName | None, typer.Option(help="Which flow; default: that of the state directory, else store.")
    ] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Allow plaintext beyond this machine.")] = False,
    as_json: Json = False,
) -> None:
    """Say in words what is wrong with a deployment and what to do; changes nothing, exit 1 where something is.

    Example: footfall doctor --config footfall.toml
    """
    from flows.doctor import doctor as looked
    from flows.findings import as_json as plain

    found = looked(flow.value if flow else None, config, insecure=insecure)
    if as_json:
        _json(plain(found))
    else:
        for one in found:
            _say(f"{one.word:5}  {one.what}: {one.about}")
            if one.remedy:
                _say(f"       to do: {one.remedy}")
    if not all(one.well for one in found):
        raise typer.Exit(1)


@app.command()
def simulate(
    out: Out,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the shop.")] = 7,
    minutes: Annotated[int, typer.Option(min=1, help="Minutes of the shop's day.")] = 10,
) -> None:
    """Write a replay directory of a simulated shop.

    Example: footfall simulate --seed 7 --minutes 10 --out day
    """
    from flows.simulate import write_directory

    with _bar("simulate") as progress:
        write_directory(out, seed=seed, minutes=minutes, progress=progress)
    _err().print(f"{out}: try  footfall replay --in {out} --out {out}-out --deliver")


@app.command()
def settings(
    config: Annotated[Path | None, typer.Option("--config", help="Check this settings file.")] = None,
    as_json: Json = False,
) -> None:
    """Print every setting with its default, unit and meaning; with --config, check a file.

    Example: footfall settings --config footfall.toml
    """
    from rich.table import Table

    from flows.settings import described, load

    load(config)
    rows = described()
    if as_json:
        _json([dict(zip(("section", "key", "default", "meaning"), row, strict=True)) for row in rows])
        return
    table = Table("section", "key", "default", "meaning")
    for row in rows:
        table.add_row(f"[{row[0]}]".replace("[", r"\["), *row[1:])
    _err().print(table)


@schemas_app.command("check")
def schemas_check() -> None:
    """Compare structs, .avsc files, released versions and their corpus; needs no network.

    Example: footfall schemas check
    """
    from schemas.check import faults

    found = faults()
    for fault in found:
        _err().print(fault, soft_wrap=True)
    if found:
        raise typer.Exit(1)
    _err().print("schemas agree with their files, with every released version and with the corpus")


@schemas_app.command("register")
def schemas_register(
    registry: Annotated[str | None, typer.Option(help="Address of the registry; default: [registry] url.")] = None,
    prefix: Annotated[str | None, typer.Option(help="Before every subject; default: [topics] prefix.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be registered.")] = False,
    set_level: Annotated[
        bool, typer.Option("--set-level", help="Make subjects that have versions FULL_TRANSITIVE, too.")
    ] = False,
    config: Annotated[Path | None, typer.Option("--config", help="Settings file.")] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Allow a password in clear beyond this machine.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Register every schema that is new, after checking it against every registered version; nothing if one fails.

    A subject without versions is made FULL_TRANSITIVE first. Of one that has some the level stays, without --set-level.

    Example: footfall schemas register --registry http://127.0.0.1:8080/apis/ccompat/v7 --dry-run
    """
    from flows.broker import STOPS, register_schemas, subject_said

    try:
        answer, fine = register_schemas(
            config, url=registry, prefix=prefix, dry_run=dry_run, set_level=set_level, insecure=insecure, say=_say
        )
    except STOPS as stopped:
        _say(str(stopped))
        raise typer.Exit(1) from stopped
    if as_json:
        _json(answer)
    else:
        for row in answer["subjects"]:
            _say(subject_said(row))
        would = "would be " * dry_run
        new = sum(row["action"] == "register" for row in answer["subjects"])
        levels = sum(row["becomes"] != row["level"] for row in answer["subjects"])
        _say(
            f"{new} {would}registered, {len(answer['subjects']) - new} known, {levels} levels {would}set"
            if fine
            else "nothing was registered, every level is as it was"
        )
    if not fine:
        raise typer.Exit(1)


@topics_app.command("create")
def topics_create(
    bootstrap: Annotated[str | None, typer.Option(help="Brokers, host:port; default: [kafka] bootstrap.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what is missing.")] = False,
    make: Annotated[bool, typer.Option("--apply", help="Make what is missing. What exists is never altered.")] = False,
    config: Annotated[Path | None, typer.Option("--config", help="Settings file.")] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Allow plaintext beyond this machine.")] = False,
    as_json: Json = False,
) -> None:
    """Compare a broker with the table of topics, and make what is missing; exit 1 where something differs.

    Example: footfall topics create --bootstrap 127.0.0.1:9092 --dry-run
    """
    from flows.broker import STOPS, create_topics

    if dry_run == make:
        raise WrongUse("footfall topics create: one of --dry-run and --apply must be given")
    try:
        answer, fine = create_topics(config, bootstrap=bootstrap, insecure=insecure, make=make, say=_say)
    except STOPS as stopped:
        _say(str(stopped))
        raise typer.Exit(1) from stopped
    if as_json:
        _json(answer)
    else:
        _say(f"{len(answer['there'])} there, {len(answer['missing'])} missing, {len(answer['differs'])} differ")
        if answer["made"]:
            _say(f"{len(answer['made'])} made")
        elif make and not fine:
            _say("nothing was made")
    if not fine:
        raise typer.Exit(1)


@campaign_app.command("lint")
def lint(
    directory: Annotated[
        Path, typer.Argument(help="Directory with campaigns/, segments/, templates/ and venue.geojson.")
    ],
    fix: Annotated[bool, typer.Option("--fix", help="Write the fixes that change no meaning.")] = False,
    as_json: Json = False,
) -> None:
    """Check a set of rules as a start does; each campaign as one sentence.

    Example: footfall campaign lint flows/example
    """
    from flows.deployment import lint as checked
    from flows.deployment import repair

    if fix:
        for path in repair(directory):
            _err().print(f"fixed {path}", soft_wrap=True, markup=False)
    faults, sentences = checked(directory)
    if as_json:
        _json({"faults": [fault.as_json() for fault in faults], "sentences": sentences})
    else:
        for fault in faults:
            _err().print(str(fault), soft_wrap=True, markup=False)
        for name, sentence in sentences.items():
            _err().print(f"{name}: {sentence}", soft_wrap=True, markup=False)
    if any(fault.refuses for fault in faults):
        raise typer.Exit(1)


@campaign_app.command("explain")
def explain(
    source: Annotated[Path, typer.Option("--in", help="Out directory of a replay.")],
    person: Annotated[str, typer.Option(help="Raw identifier, namespace:value, or a token.")],
    at: Annotated[str, typer.Option(help="When: RFC 3339, or HH:MM of the shop's clock (UTC without --of).")],
    campaign: Annotated[str | None, typer.Option(help="Only this campaign.")] = None,
    of: Annotated[
        Path | None,
        typer.Option("--of", help="The directory that was replayed: its time zone, its key, its campaigns."),
    ] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Say in words why a person got an action, or why not, from the records.

    Example: footfall campaign explain --in out --of day --person loyalty:ana-card --at 17:01
    """
    from flows.explain import explained

    answer = explained(source, person=person, at=at, campaign=campaign, config=config, of=of)
    if as_json:
        _json(answer)
    else:
        sys.stdout.write(answer["text"] + "\n")


@identity_app.command("token")
def token(
    identifier: Annotated[str, typer.Argument(help="namespace:raw")],
    config: Annotated[Path | None, typer.Option("--config", help="Settings file that names the key.")] = None,
) -> None:
    """Print what an identifier is called inside.

    Example: footfall identity token tag:ana-tag
    """
    from flows.deployment import hasher

    hashed, example = hasher(config)
    if example:
        _err().print("using the published example key: not for production")
    sys.stdout.write(hashed(identifier) + "\n")


@train_app.command("intent")
def train_intent(
    source: In,
    out: Out,
    seed: Annotated[int, typer.Option(help="Seed of the training.")] = 7,
    as_json: Json = False,
) -> None:
    """Train the intent model on a replay directory; the same bytes every time.

    Example: footfall train intent --in history --out models
    """
    from flows.train import Leak, ModelUnavailable, TooLittle, train

    try:
        with _bar("train") as progress:
            report = train(source, out, seed=seed, progress=progress)
    except (Leak, TooLittle, ModelUnavailable) as stopped:
        _err().print(str(stopped), soft_wrap=True, markup=False)
        raise typer.Exit(1) from stopped
    if as_json:
        _json(report)
    else:
        _err().print(f"{report['path']}: {report['rows']:,} rows, AUC {report['metrics']['auc']:.3f} on the newest")


@letters_app.command("export")
def export(
    source: Annotated[Path, typer.Option("--in", help="An ops.dead-letter file.")],
    out: Out,
    config: Config = None,
) -> None:
    """Open the payloads of dead letters with the deployment key, one file a topic, for repair and re-feeding.

    Example: footfall dead-letter export --in out/ops.dead-letter.jsonl --out repair
    """
    from flows.letters import exported

    for topic, rows in exported(source, out, config=config).items():
        _err().print(f"{out / topic}.jsonl: {rows:,} rows")


def _refuses(error: Exception) -> bool:
    """Whether it is wrong use; whoever is refused nothing need not load what refuses."""
    from operators.rules.faults import RulesRefused
    from operators.venues.venue import VenueFault
    from schemas.pseudonym import BadIdentifier

    return isinstance(error, (WrongUse, BadIdentifier, VenueFault, RulesRefused))


def main() -> None:
    """Run the command line with exit codes that mean something."""
    try:
        if sys.argv[1:2] == ["run"]:  # see `_words_of_run`
            sys.exit(_run(sys.argv[2:]))
        app()
    except Exception as refused:
        if not _refuses(refused):
            raise
        _err().print(str(refused), soft_wrap=True, markup=False)
        sys.exit(2)


if __name__ == "__main__":
    main()
