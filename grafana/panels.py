"""What dashboards are made of. Pure: values in, Grafana's JSON out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

DATASOURCE = {"type": "prometheus", "uid": "$datasource"}
LABELS = 'instance=~"$instance", model=~"$model", version=~"$version"'
WIDTH = 24


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel: what it asks, and how the answer looks.

    `targets` are PromQL expressions with the legend of their series. `steps` are thresholds: from each value on, the
    colour; the first value is not looked at.
    """

    title: str
    text: str
    unit: str
    targets: Sequence[tuple[str, str]]
    kind: str = "timeseries"
    steps: Sequence[tuple[float, str]] = ()
    stacked: bool = False
    width: int = 8
    height: int = 8


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One dashboard: rows of panels, each row with its title."""

    uid: str
    title: str
    text: str
    rows: Sequence[tuple[str, Sequence[Panel]]]
    variables: Sequence[str] = field(default=("instance", "model", "version"))

    def json(self) -> dict[str, Any]:
        """The dashboard as Grafana reads it from a file."""
        panels: list[dict[str, Any]] = []
        y = 0
        for title, row in self.rows:
            panels.append(_row(title, len(panels) + 1, y))
            y += 1
            x = height = 0
            for panel in row:
                if x + panel.width > WIDTH:
                    x, y, height = 0, y + height, 0
                panels.append(_panel(panel, len(panels) + 1, x, y))
                x += panel.width
                height = max(height, panel.height)
            y += height
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.text,
            "tags": ["sluice"],
            "schemaVersion": 39,
            "editable": True,
            "graphTooltip": 1,
            "refresh": "10s",
            "time": {"from": "now-30m", "to": "now"},
            "links": [
                {
                    "type": "dashboards",
                    "title": "Sluice",
                    "tags": ["sluice"],
                    "asDropdown": False,
                    "keepTime": True,
                    "includeVars": True,
                }
            ],
            "templating": {"list": [_datasource(), *[_variable(name) for name in self.variables]]},
            "panels": panels,
        }


def quantile(share: float, metric: str, by: str = "model", where: str = "") -> str:
    """The quantile of a histogram."""
    labels = f"{LABELS}, {where}" if where else LABELS
    return f"histogram_quantile({share}, sum by (le, {by}) (rate({metric}_bucket{{{labels}}}[$__rate_interval])))"


def rate(metric: str, by: str, where: str = "") -> str:
    """How fast a counter grows, per second."""
    labels = f"{LABELS}, {where}" if where else LABELS
    return f"sum by ({by}) (rate({metric}{{{labels}}}[$__rate_interval]))"


def mean(metric: str, by: str) -> str:
    """The mean of what a histogram counted."""
    return f"{rate(f'{metric}_sum', by)} / {rate(f'{metric}_count', by)}"


def gauge(metric: str, by: str = "model, version") -> str:
    """A gauge, summed over the gateways."""
    return f"sum by ({by}) ({metric}{{{LABELS}}})"


def _row(title: str, number: int, y: int) -> dict[str, Any]:
    return {
        "type": "row",
        "id": number,
        "title": title,
        "collapsed": False,
        "panels": [],
        "gridPos": {"x": 0, "y": y, "w": WIDTH, "h": 1},
    }


def _panel(panel: Panel, number: int, x: int, y: int) -> dict[str, Any]:
    steps = [{"value": value if place else None, "color": colour} for place, (value, colour) in enumerate(panel.steps)]
    custom: dict[str, Any] = {}
    if panel.kind == "timeseries":
        custom = {"lineWidth": 1, "fillOpacity": 40 if panel.stacked else 8, "showPoints": "never"}
        custom["stacking"] = {"mode": "normal" if panel.stacked else "none"}
        custom["thresholdsStyle"] = {"mode": "line" if steps else "off"}
    return {
        "type": panel.kind,
        "id": number,
        "title": panel.title,
        "description": panel.text,
        "datasource": DATASOURCE,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": panel.height},
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "min": 0,
                "custom": custom,
                "thresholds": {"mode": "absolute", "steps": steps or [{"value": None, "color": "green"}]},
            },
            "overrides": [],
        },
        "options": _options(panel),
        "targets": [
            {
                "refId": chr(ord("A") + place),
                "datasource": DATASOURCE,
                "expr": expression,
                "legendFormat": legend,
                "format": "heatmap" if panel.kind == "heatmap" else "time_series",
                "exemplar": panel.kind == "timeseries" and "request_duration" in expression,
            }
            for place, (expression, legend) in enumerate(panel.targets)
        ],
    }


def _options(panel: Panel) -> dict[str, Any]:
    if panel.kind == "stat":
        return {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "background", "graphMode": "area"}
    if panel.kind == "heatmap":
        scheme = {"mode": "scheme", "scheme": "Spectral", "steps": 64}
        return {"calculate": False, "color": scheme, "yAxis": {"unit": panel.unit}, "tooltip": {"mode": "single"}}
    legend = {"displayMode": "table", "placement": "bottom", "calcs": ["mean", "max"]}
    return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}


def _datasource() -> dict[str, Any]:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}


def _variable(name: str) -> dict[str, Any]:
    source = {
        "instance": "label_values(sluice_build_info, instance)",
        "model": 'label_values(sluice_model_load_seconds{instance=~"$instance"}, model)',
        "version": 'label_values(sluice_model_load_seconds{instance=~"$instance", model=~"$model"}, version)',
    }[name]
    return {
        "name": name,
        "label": name.capitalize(),
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": source, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }
