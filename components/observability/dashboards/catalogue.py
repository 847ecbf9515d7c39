"""The dashboards of the platform, each once. A new one is a file with a function and a line here."""

import json
from collections.abc import Callable

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from components.observability.dashboards import (
    additional_services,
    ai_models_performance,
    cost_estimation,
    executive_summary,
    gpu_cpu_performance,
    ollama_models,
    ollama_optimization,
    system_overview,
    users_sessions,
)
from components.observability.dashboards.panels import Sources
from settings import Settings

DASHBOARDS: tuple[Callable[[Sources], Dashboard], ...] = (
    executive_summary.dashboard,
    system_overview.dashboard,
    ollama_models.dashboard,
    ai_models_performance.dashboard,
    ollama_optimization.dashboard,
    gpu_cpu_performance.dashboard,
    users_sessions.dashboard,
    cost_estimation.dashboard,
    additional_services.dashboard,
)


def dashboards(settings: Settings, services: frozenset[str]) -> list[Dashboard]:
    """Return the dashboards of a stack in which these services are deployed."""
    sources = Sources(settings=settings, services=services)
    return [make(sources) for make in DASHBOARDS]


def render(settings: Settings, services: frozenset[str]) -> dict[str, str]:
    """Return the dashboards as Grafana reads them, by identifier."""
    return {
        str(made.uid): json.dumps(made, cls=JSONEncoder, indent=1, sort_keys=True)
        for made in dashboards(settings, services)
    }
