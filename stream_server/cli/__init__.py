"""The command ``stream-server``."""

from typing import Annotated

import typer

from certs.cli import Recorder
from certs.cli import app as certs_app
from stream_server import __version__
from stream_server.cli.audit import app as audit_app
from stream_server.cli.bench import bench
from stream_server.cli.bundle import bundle
from stream_server.cli.demo import demo
from stream_server.cli.evaluate import evaluate
from stream_server.cli.keys import app as keys_app
from stream_server.cli.link import link
from stream_server.cli.models import app as models_app
from stream_server.cli.models_sealed import add_commands
from stream_server.cli.policy import app as policy_app
from stream_server.cli.recorded import recorded_deed
from stream_server.cli.serve import serve
from stream_server.cli.token import token
from stream_server.cli.transcribe import transcribe
from stream_server.cli.watch import watch

app = typer.Typer(
    name="stream-server",
    help="Private live captions: speech over mutual TLS in, captions out. Nothing leaves your network.",
    no_args_is_help=True,
    rich_markup_mode=None,  # help texts hold square brackets
    # A local variable may hold speech or a key; logs want plain tracebacks.
    pretty_exceptions_enable=False,
)
app.command()(serve)
app.command(short_help="Show live captions of an included dialogue.")(demo)
app.command()(transcribe)
app.command(short_help="Measure how well and how fast a model reads recordings.")(evaluate)
app.command(short_help="Measure how many live streams a server carries.")(bench)
app.command()(watch)
app.command(short_help="Make, list and end the links by which guests read a room.")(link)
app.command(short_help="Have a token made for a sender without a certificate.")(token)
app.command(short_help="Write an archive that installs without network.")(bundle)
add_commands(models_app)
app.add_typer(models_app, name="models", help="Install, list and check the models that --model names.")
app.add_typer(audit_app, name="audit")
app.add_typer(keys_app, name="keys", short_help="Change the keys that sign tokens and the audit log.")
app.add_typer(policy_app, name="policy", help="Show the rules of who may do what, and explain a decision.")
app.add_typer(certs_app, name="certs", help="Make and revoke the certificates of server and clients.")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"stream-server {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options before the command."""
    ctx.obj = Recorder(recorded_deed)


def main() -> None:
    """Entry point of the console script."""
    app()
