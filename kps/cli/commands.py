"""The subcommands of `kps`. Each imports what it needs when it is called, so that the others stay quick."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

import kps
from kps.cli.terminal import complain, say

if TYPE_CHECKING:
    from kps.core.settings import Settings

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="KPS, the kitchen printer service. Settings are read from the environment.",
)

printers = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="What each printer has proven.")
app.add_typer(printers, name="printers")

Profile = Literal["generic", "epson-t20iii", "epson-u220", "hprt-tp80k", "xprinter-80", "impostor", "mute"]
Policy = Literal["one_refuse", "one_hang", "one_reset", "many_one_prints", "many_interleave"]


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(f"kps {kps.__version__}")


@app.command()
def demo(
    seconds: Annotated[
        float | None, typer.Option(min=0.1, help="How long guests order. Default 30, no limit with --orders.")
    ] = None,
    orders: Annotated[int | None, typer.Option(min=1, help="How many orders, at most.")] = None,
    rate: Annotated[float, typer.Option(min=0.1, max=60_000, help="Orders per minute, on average.")] = 60.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same orders.")] = 1,
    speed: Annotated[
        Literal["fast", "real"], typer.Option(help="fast: printing takes no time; real: as a real printer.")
    ] = "fast",
    plain: Annotated[bool, typer.Option("--plain", help="Lines of text instead of the live view.")] = False,
    calm: Annotated[bool, typer.Option("--calm", help="No printer runs out of paper.")] = False,
    keep: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A new folder for database, logs, papers, env; kept afterwards.")
    ] = None,
) -> None:
    """Show the whole service at work.

    A database, five virtual printers, guests who order, and the real service between them.

    Ends with a summary, and with 0 only if every ticket was printed and is on paper exactly once, or marked.
    Nothing is left behind, but for --keep.
    """
    from kps.demo.run import DEFAULT_SECONDS, Options, run
    from kps.demo.virtual_printer import Speed

    if seconds is None and orders is None:
        seconds = DEFAULT_SECONDS
    raise typer.Exit(run(Options(seconds, orders, rate, seed, plain, calm, Speed(speed), keep)))


@app.command()
def check() -> None:
    """Say whether the service could run here.

    Looks at settings, database, printers and ports, and changes nothing. A printer that a running instance holds is
    not disturbed: its owner says how it is.

    Exits with 0 if all is well, 1 if there is a problem, 78 for bad settings.
    """
    from kps.cli.check import run
    from kps.config import EXIT_BAD_CONFIGURATION, BadConfiguration, load

    try:
        settings = load()
    except BadConfiguration as bad:
        for fault in bad.faults:
            say(f"problem  settings: {fault}")
        raise typer.Exit(EXIT_BAD_CONFIGURATION) from None
    raise typer.Exit(0 if run(settings, say) else 1)


@app.command()
def logs(
    name: Annotated[str, typer.Argument(help="Whose log: supervisor, dispatcher, a printer's name.")] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new lines until Ctrl+C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last lines.")] = 20,
) -> None:
    """Show the end of a log, or which there are.

    The folder is LOG_DIR, or LOG_DIR/INSTANCE_NAME where instances share LOG_DIR. Without a name: all logs with size
    and time.
    """
    from kps.cli.log_files import NoSuchLog, find, listing, show
    from kps.logs import folder_of

    log_dir = os.environ.get("LOG_DIR", "./logs").strip()
    if not log_dir:
        _refuse("LOG_DIR is empty: this instance logs to its standard output only")
    folder = folder_of(Path(log_dir), os.environ.get("INSTANCE_NAME", "").strip() or "kps")
    try:
        if not name:
            for line in listing(folder):
                say(line)
            return
        show(find(folder, name), lines, follow=follow, say=say)
    except NoSuchLog as missing:
        _refuse(str(missing))


@app.command()
def schema(
    after: Annotated[int, typer.Option(min=0, help="Only the migrations after this version, without the trigger.")] = 0,
) -> None:
    """Print the SQL of our own tables.

    All of schema kps and the wake-up trigger, for sites with AUTO_MIGRATE=off.
    """
    from kps.cli.schema import script

    typer.echo(script(after, _settings().database.schema), nl=False)


@app.command()
def preview(
    ticket: Annotated[int, typer.Argument(min=1, metavar="TICKET_ID", help="Number of the ticket in the POS.")],
    png: Annotated[Path | None, typer.Option(metavar="FILE", help="Also draw it, dot by dot, into this file.")] = None,
    printer: Annotated[
        str,
        typer.Option(metavar="NAME", help="As this printer would. Default: the one that had it last, or its first."),
    ] = "",
) -> None:
    """Show the paper of a ticket without printing it.

    It is what would come out now, whatever the ticket's status; nothing is changed.

    Exits with 0, 1 if it cannot be shown, 2 if the name fits no printer or FILE is no file, 78 for bad settings.
    """
    from kps.cli.preview import NoFile, NothingToShow, NotWritten, run
    from kps.cli.printers import EXIT_USAGE
    from kps.core.document import Unrenderable
    from kps.database import DatabaseTrouble
    from kps.database.preview import UnknownPrinter
    from kps.database.schema import SchemaUnusable

    try:
        run(_settings(), ticket, printer, png, typer.echo)
    except UnknownPrinter as fault:
        known = ", ".join(fault.known) or "none"
        _refuse(f"no printer is called {printer}; there are: {known}", code=EXIT_USAGE)
    except NoFile as fault:
        _refuse(str(fault), code=EXIT_USAGE)
    except Unrenderable as why:
        _refuse(f"ticket {ticket} cannot be printed: {why}")
    except (NothingToShow, NotWritten, DatabaseTrouble, SchemaUnusable) as why:
        _refuse(str(why))


@printers.command("list")
def printers_list() -> None:
    """Show every printer row of the POS with what is known about its device.

    Level none or realtime without a time of a probe is what the service has seen by itself.
    """
    from kps.cli.printers import run_list
    from kps.database import DatabaseTrouble
    from kps.database.schema import SchemaUnusable

    try:
        run_list(_settings(), say)
    except (DatabaseTrouble, SchemaUnusable) as trouble:
        _refuse(str(trouble))


@printers.command("probe")
def printers_probe(
    name: Annotated[str, typer.Argument(help="A printer's name in the POS, or its ip:port.")],
    yes: Annotated[bool, typer.Option("--yes", help="Nobody stands there: nothing above realtime is stored.")] = False,
    overflow: Annotated[bool, typer.Option("--overflow", help="Also send 30 KB at once: 2.5 m of paper.")] = False,
) -> None:
    """Find out what a printer can prove, and store it.

    Stand at the printer: slips come out, its cover is opened twice, questions are asked. The running service lends the
    printer meanwhile; its tickets go to their backup, or wait.

    Exits with 0 if the result was stored, 1 if not, 2 if the name fits no printer, 78 for bad settings.
    """
    from kps.cli.printers import EXIT_USAGE, BadName, run_probe

    if yes and overflow:
        _refuse("--overflow needs somebody who looks at the paper, so not with --yes", code=EXIT_USAGE)
    settings = _settings()
    try:
        raise typer.Exit(run_probe(settings, name, say, yes=yes, overflow=overflow))
    except BadName as fault:
        _refuse(str(fault), code=EXIT_USAGE)


@app.command("virtual-printer")
def virtual_printer(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 = any free port.")] = 9100,
    host: Annotated[
        str, typer.Option(help="Address to listen on. As a real printer, it serves the whole network by default.")
    ] = "0.0.0.0",  # noqa: S104  # a printer that only its own host reaches is none
    name: Annotated[str, typer.Option(help="What it calls itself in its output.")] = "kitchen-1",
    speed: Annotated[Literal["fast", "real"], typer.Option()] = "fast",
    profile: Annotated[Profile, typer.Option(help="The model that it behaves like.")] = "generic",
    connections: Annotated[Policy, typer.Option(help="What becomes of a second connection.")] = "many_one_prints",
) -> None:
    """Be a printer on the network.

    Speaks ESC/POS; what it prints appears on this terminal, until Ctrl+C.
    """
    from kps.demo.virtual_printer import run

    raise typer.Exit(run(host, port, name, speed=speed, profile=profile, connections=connections))


@app.command("demo-pos")
def demo_pos(
    printer: Annotated[
        list[str], typer.Option(metavar="NAME=[STATION@]HOST:PORT", help="A printer; give one option for each.")
    ],
    rate: Annotated[float, typer.Option(min=0.1, max=60_000, help="Orders per minute, on average.")] = 20.0,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same orders.")] = None,
) -> None:
    """Be a POS with guests who order.

    Makes the POS's tables in the database of DB_* if there are none, and orders until SIGTERM.
    Without STATION the name is the station. Stations that nobody names print on the first printer.
    A database with a real POS's data is refused.
    """
    from psycopg2.extensions import make_dsn

    from kps.config import EXIT_BAD_CONFIGURATION, BadConfiguration, load
    from kps.demo.till import BadPrinter, parse_printer, run

    try:
        named = [parse_printer(text) for text in printer]
        database = load().database
    except BadPrinter as fault:
        _refuse(str(fault), code=2)
    except BadConfiguration as bad:
        _refuse("; ".join(bad.faults), code=EXIT_BAD_CONFIGURATION)
    dsn = make_dsn(
        host=database.host,
        port=database.port,
        dbname=database.name,
        user=database.user,
        password=database.password,
        sslmode=database.sslmode,
        connect_timeout=5,
        options=f"-c search_path={database.schema} -c default_transaction_read_only=off",
    )
    raise typer.Exit(run(dsn, named, rate=rate, seed=seed))


def _settings() -> Settings:
    """The settings, or the end with what is wrong with them."""
    from kps.config import EXIT_BAD_CONFIGURATION, BadConfiguration, load

    try:
        return load()
    except BadConfiguration as bad:
        _refuse("; ".join(bad.faults), code=EXIT_BAD_CONFIGURATION)


def _refuse(sentence: str, code: int = 1) -> NoReturn:
    """Say on standard error why it cannot be done, and exit."""
    complain(sentence)
    raise typer.Exit(code)
