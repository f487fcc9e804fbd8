"""Carries out `sluice profile` for one model after another. If one fails, the results of the others are still shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from sluice.gateway.commands.profile.measure import (
    Profile,
    as_json_text,
    as_table,
    picked,
    profile,
    under,
    without_plan,
)
from sluice.gateway.commands.profile.plot import check_plot, curveless, plot
from sluice.gateway.commands.profile.write import model_toml, settings_of, write_plan
from sluice.inference.config.faults import read_toml
from sluice.inference.config.model_config import ModelConfig
from sluice.inference.errors import StartError
from sluice.inference.repository.scan import CONFIG_FILE, ModelVersion, look

PLANNED = (("batching", "max_rows"), ("workers", "count"), ("workers", "intra_op_threads"))
"""The keys that a plan sets, each with its table."""


class ProfileOrder(msgspec.Struct, frozen=True):
    """What was asked for: the models at a path, or only the one named, and what to do with their plans."""

    models: Path
    defaults: ModelConfig
    name: str | None = None
    objective_ms: float | None = None
    afresh: bool = False
    plot_file: Path | None = None
    write: bool = False
    as_json: bool = False
    allowed: tuple[Path, ...] = ()


async def carry_out(order: ProfileOrder, say: Callable[[str], None], note: Callable[[str], None]) -> None:
    """Measures each model, and shows and writes its plan as soon as it is known. JSON and plots come at the end.

    `say` is called with results, `note` with progress. Raises `StartError`: at once for an order that cannot be carried
    out, and otherwise at the end, with every failure.
    """
    sources, failures = picked(look(order.models, order.defaults, order.allowed), order.name)
    configs = [_config(each, order, note) for each in sources]
    tomls = [model_toml(each, order.models) for each in sources] if order.write else []
    if order.plot_file is not None:
        check_plot(order.plot_file)
    found: list[Profile] = []
    for place, (source, config) in enumerate(zip(sources, configs, strict=True)):
        note(f"measuring {source.name}, version {source.version} ...")
        try:
            each = await profile(source, config)
            if not order.as_json:
                say(("\n" if found else "") + as_table(each))
            found.append(each)
            if order.write:
                note(f"written: {tomls[place]}: {write_plan(tomls[place], settings_of(each, order.objective_ms))}")
        except StartError as error:
            failures.append(str(error))
    if order.as_json and found:
        say(as_json_text(found))
    if order.plot_file is not None:
        failures += _plotted(found, order.plot_file, note)
    if failures:
        raise StartError("\n".join(failures))


def planned_anew(
    config: ModelConfig, defaults: ModelConfig, toml: Mapping[str, Any]
) -> tuple[ModelConfig, tuple[str, ...]]:
    """The configuration without the `PLANNED` keys of the `model.toml`, and these keys with their values.

    An earlier plan may have been written there for another objective. Values from `defaults`, which the operator set
    for all models, are kept. `toml` has the tables of the file.
    """
    dropped: list[str] = []
    for table, key in PLANNED:
        if key in toml.get(table, {}):
            section = getattr(config, table)
            dropped.append(f"{table}.{key} = {getattr(section, key)}")
            section = section.model_copy(update={key: getattr(getattr(defaults, table), key)})
            config = config.model_copy(update={table: section})
    return config, tuple(dropped)


def _config(source: ModelVersion, order: ProfileOrder, note: Callable[[str], None]) -> ModelConfig:
    """The configuration by which the model is measured and planned. Raises `RepositoryError`."""
    config = under(without_plan(source.config) if order.afresh else source.config, order.objective_ms)
    if order.afresh or order.objective_ms is None or order.models.is_file():
        return config
    toml = source.file.parent.parent / CONFIG_FILE
    config, dropped = planned_anew(config, order.defaults, read_toml(toml) if toml.exists() else {})
    if dropped:
        note(f"planned afresh for --objective-ms, without what {toml} says: {', '.join(dropped)}")
    return config


def _plotted(found: Sequence[Profile], file: Path, note: Callable[[str], None]) -> list[str]:
    """Draws the curves that were measured. Returns what went wrong, in words."""
    curves = [each for each in found if each.plan.knots]
    faults = [curveless(each) for each in found if not each.plan.knots]
    if not curves:
        return faults
    try:
        plot(curves, file)
    except StartError as error:
        return [*faults, str(error)]
    note(f"drawn: {file}")
    return faults
