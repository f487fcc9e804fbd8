"""The command line: `sluice serve`, `ready`, `profile`, `load` and `config`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import uvloop

from sluice.gateway.settings.load import LoadedSettings, SettingsError, load_settings
from sluice.loadgen.cli import load

# What a command needs beside these is imported when it runs: the server's imports take half a second, which
# `sluice --help` and a wrong option need not take.

OPTIONS: Mapping[str, tuple[str, str]] = {
    "host": ("server.host", "Address to listen on."),
    "port": ("server.port", "Port to listen on; 0 lets the system choose."),
    "grpc_port": ("server.grpc_port", "Port to listen on for gRPC; 0 turns it off."),
    "management_port": ("server.management_port", "Port for TorchServe's management API; 0, the default: none."),
    "tls_cert": ("server.tls_cert", "Certificate chain (PEM): serve HTTPS."),
    "tls_key": ("server.tls_key", "The certificate's private key (PEM)."),
    "tls_client_ca": ("server.tls_client_ca", "Only clients certified by this CA (PEM) may call."),
    "log_level": ("logs.level", "debug, info, warning or error."),
    "log_format": ("logs.format", "json, console, or auto: console on a terminal."),
}
"""Command-line options and the settings that they set. All other settings are set by variables or in `sluice.toml`."""


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that set settings."""
    for name, (_, text) in reversed(list(OPTIONS.items())):
        command = click.option(f"--{name.replace('_', '-')}", name, help=text)(command)
    return click.option("--config", "config_file", type=click.Path(), help="Settings file instead of sluice.toml.")(
        command
    )


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sluice-gateway")
def main() -> None:
    """Serve ONNX models over HTTP and gRPC, in batches."""


@main.command()
@click.argument("models", type=click.Path(), required=False)
@with_settings
def serve(models: str | None, config_file: str | None, **options: str | None) -> None:
    """Serve MODELS: a .onnx file, or a folder with <name>/<version>/model.onnx in it."""
    _linux_only("serve")
    from sluice.gateway.assembly import Gateway
    from sluice.gateway.commands.banner import print_banner
    from sluice.gateway.process.allocation import give_large_blocks_back
    from sluice.gateway.process.listeners import open_listeners
    from sluice.gateway.process.run import run
    from sluice.gateway.telemetry.logs import configure_logs, log, log_what_nobody_catches
    from sluice.inference.errors import StartError
    from sluice.inference.repository.scan import look

    settings = _load(config_file, options | {"models": models}).settings
    give_large_blocks_back()
    configure_logs(settings.logs.format, settings.logs.level, secrets=settings.secrets)
    log_what_nobody_catches()
    try:
        found = look(settings.models.path, settings.model_defaults, settings.models.allow)
        for line in found.passed_over:
            log.info("the repository has something that is no model", what=line)
        gateway = Gateway(settings, found.versions, found.broken)
        with (
            open_listeners(settings.server) as listeners,
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            address = listeners.http.getsockname()
            runner.run(run(gateway, listeners, lambda: print_banner(settings.server, gateway.catalogue, address)))
    except StartError as error:
        raise click.ClickException(str(error)) from None


@main.command("ready")
@with_settings
def ready(config_file: str | None, **options: str | None) -> None:
    """Exit with 0 if the gateway that these settings start is ready, else with 1: a health check for containers."""
    from sluice.gateway.commands.ready import why_not_ready

    if (reason := why_not_ready(_load(config_file, options).settings.server)) is not None:
        raise click.ClickException(reason)


@main.command("profile")
@click.argument("models", type=click.Path(), required=False)
@click.option("--model", "name", help="Only the model of this name.")
@click.option(
    "--objective-ms",
    type=float,
    help="Plan so that this latency is kept. max_rows, count and intra_op_threads are then planned afresh where "
    "model.toml sets them; what the settings say of them stays.",
)
@click.option("--afresh", is_flag=True, help="Plan as if max_rows, count and intra_op_threads were not set.")
@click.option("--plot", "plot_file", type=click.Path(path_type=Path), help="Draw the curve into this .png file.")
@click.option("--write", is_flag=True, help="Write the plan into the model's model.toml.")
@click.option("--explain", is_flag=True, help="Say operator by operator where rows stay apart; measure nothing.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("--config", "config_file", type=click.Path(), help="Settings file instead of sluice.toml.")
def profile_models(
    models: str | None,
    name: str | None,
    objective_ms: float | None,
    afresh: bool,
    plot_file: Path | None,
    write: bool,
    explain: bool,
    as_json: bool,
    config_file: str | None,
) -> None:
    """Measure MODELS, the highest version of each, and print how it would be served and why.

    MODELS is what `sluice serve` takes: a .onnx file, a model's folder, or a folder of models.
    """
    _linux_only("profile")
    from sluice.gateway.commands.profile.command import ProfileOrder, carry_out
    from sluice.inference.errors import StartError

    settings = _load(config_file, {"models": models}).settings
    if explain:
        from sluice.gateway.commands.profile.explain import explain_models
        from sluice.inference.repository.scan import look

        try:
            found = look(settings.models.path, settings.model_defaults, settings.models.allow)
            explain_models(found, name, click.echo, as_json=as_json)
        except StartError as error:
            raise click.ClickException(str(error)) from None
        return
    order = ProfileOrder(
        models=settings.models.path,
        defaults=settings.model_defaults,
        name=name,
        objective_ms=objective_ms,
        afresh=afresh,
        plot_file=plot_file,
        write=write,
        as_json=as_json,
        allowed=settings.models.allow,
    )
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(carry_out(order, click.echo, lambda text: click.echo(text, err=True)))
    except StartError as error:
        raise click.ClickException(str(error)) from None


main.add_command(load)


@main.command("config")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@with_settings
def show_config(config_file: str | None, as_json: bool, **options: str | None) -> None:
    """Print the settings in force, and where each value comes from."""
    from sluice.gateway.commands.show_settings import as_json_text, as_table

    loaded = _load(config_file, options)
    click.echo(as_json_text(loaded) if as_json else as_table(loaded))


def _linux_only(command: str) -> None:
    if sys.platform != "linux":
        raise click.ClickException(f"sluice {command} needs Linux (memfd, SCM_RIGHTS); this is {sys.platform}")


def _load(config_file: str | None, options: Mapping[str, Any]) -> LoadedSettings:
    keys = {name: key for name, (key, _) in OPTIONS.items()} | {"models": "models.path"}
    given = {keys[name]: value for name, value in options.items() if value is not None}
    try:
        loaded = load_settings(given, config_file=None if config_file is None else Path(config_file))
    except SettingsError as error:
        raise click.ClickException(str(error)) from None
    if loaded.unseen is not None:
        click.echo(f"Warning: {loaded.unseen}", err=True)
    return loaded
