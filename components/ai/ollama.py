"""Ollama: the server of the models, on the processor or on a graphics card, and the models themselves."""

import json
import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pulumi
import pulumi_docker as docker

import settings
from components.ai.names import job_name, tagged
from components.context import Platform
from components.images import OLLAMA, OLLAMA_AMD, OPEN_WEBUI, Image
from components.service import (
    TEMPORARY,
    Alert,
    Container,
    DataVolume,
    Deployment,
    Health,
    Network,
    Service,
    Severity,
    SharedVolume,
    deploy_container,
    deploy_job,
)
from settings import ROOT, Accelerator, OllamaModel, named_file

PORT = 11434
MODELS_PATH = "/root/.ollama"
VOLUME = "ollama-models"

JOB_IMAGE = OPEN_WEBUI
"""What the models' jobs run in: Ollama's own image has nothing that downloads, and this one is there anyway, with its Python."""

MACHINE = "host.docker.internal"
"""What a job calls the machine that Docker runs on."""

START = """\
(
  (
    until ollama list >/dev/null 2>&1; do sleep 0.5; done
    while [ $# -gt 0 ]; do
      if ollama show "$1" >/dev/null 2>&1; then ollama run --keepalive "$2" "$1" '' </dev/null >/dev/null; fi
      shift 2
    done
  ) &
)
exec ollama serve
"""
"""Serves, and loads the warm models, given as name and time, whenever it is started: before people come, if Docker had to start
it again. At the very first start there are none yet; then the models' jobs do it. The inner shell is a child of the container's first
process, which takes note of its end; Ollama would not."""


class Ollama(Service):
    """The model servers. Only the queue and the models' own jobs can reach them."""

    name = "ollama"
    area = "ai"

    @property
    def image(self) -> Image:
        """Ollama, for AMD with its libraries."""
        return OLLAMA_AMD if self.settings.accelerator is Accelerator.AMD else OLLAMA

    def alerts(self) -> tuple[Alert, ...]:
        """Return the alerts of the models and their queue, as the proxy sees them."""
        limits = self.settings.monitoring
        return (
            Alert(
                name="OllamaNotAnswering",
                expression='max(haproxy_server_status{proxy="ollama",state="UP"}) == 0',
                seconds=60,
                severity=Severity.CRITICAL,
                kind="availability",
                summary="Ollama does not answer",
                description="The proxy's check of each server of Ollama fails, so every request for a model is answered 503.",
            ),
            Alert(
                name="OllamaServerDown",
                expression=(
                    'haproxy_server_status{proxy="ollama",state="UP"} == 0'
                    ' and on () (max(haproxy_server_status{proxy="ollama",state="UP"}) == 1)'
                ),
                seconds=60,
                severity=Severity.WARNING,
                kind="availability",
                summary="{{ $labels.server }} does not answer",
                description="The proxy's check of one server of Ollama fails; the others answer all requests.",
            ),
            Alert(
                name="ModelsQueueLong",
                expression=f'haproxy_backend_current_queue{{proxy="ollama"}} > {limits.waiting_requests}',
                seconds=120,
                severity=Severity.WARNING,
                kind="queue",
                summary="{{ $value }} requests wait for a model",
                description=f"More than {limits.waiting_requests} requests have waited in the queue for 2 minutes.",
            ),
            Alert(
                name="ModelsRefused",
                expression='increase(haproxy_backend_http_responses_total{proxy="ollama",code="5xx"}[5m]) > 0',
                seconds=60,
                severity=Severity.WARNING,
                kind="refused",
                summary="Requests for a model were refused",
                description="In the last 5 minutes requests were answered 503: the queue was full, the wait too long, or Ollama away.",
            ),
            Alert(
                name="ModelsSlow",
                expression=(
                    "histogram_quantile(0.95, sum by (model, le) (rate(ollama_first_byte_seconds_bucket[5m])))"
                    f" > {limits.answer_seconds}"
                ),
                seconds=300,
                severity=Severity.WARNING,
                kind="latency",
                summary="Answers of {{ $labels.model }} begin after {{ $value | humanizeDuration }}",
                description=f"For one of 20 requests more than {limits.answer_seconds} s pass before the first byte of the answer.",
            ),
        )

    def container(self, platform: Platform) -> Container:
        """Return the first server's container, which has the models' volume."""
        del platform
        return self._server(1)

    def _server(self, number: int) -> Container:
        """Return a server's container; the limits hold for every accelerator.

        All servers have the same models. Ollama reads the list anew for each request and keeps no lock, so several may read one
        store; its cleaning at the start, which would remove what the first one is fetching, is switched off.
        """
        chosen = self.settings.ollama
        nvidia = self.settings.accelerator is Accelerator.NVIDIA
        amd = self.settings.accelerator is Accelerator.AMD
        visible = device_ids(chosen, number)
        warm = [
            word
            for model in self.settings.models
            if number <= _warm_servers(model, chosen)
            for word in (model.name, _with_unit(_keep_alive(model)))
        ]
        volume = DataVolume(name=VOLUME, path=MODELS_PATH)
        return Container(
            entrypoint=("sh", "-c", START, "sh") if warm else None,
            command=tuple(warm) or ("serve",),
            environment={
                "OLLAMA_HOST": f"0.0.0.0:{PORT}",
                "OLLAMA_MODELS": f"{MODELS_PATH}/models",
                "OLLAMA_MAX_LOADED_MODELS": str(chosen.max_loaded_models),
                "OLLAMA_NUM_PARALLEL": str(chosen.parallel_requests),
                "OLLAMA_KEEP_ALIVE": chosen.keep_alive,
                "OLLAMA_CONTEXT_LENGTH": str(chosen.context_length),
                "OLLAMA_FLASH_ATTENTION": "1" if chosen.flash_attention else "0",
                "OLLAMA_KV_CACHE_TYPE": chosen.cache_type,
                "OLLAMA_NOPRUNE": "1",
                **({"NVIDIA_DRIVER_CAPABILITIES": "compute,utility"} if nvidia else {}),
                **({"ROCR_VISIBLE_DEVICES": ",".join(visible)} if amd and visible else {}),
            },
            health=Health(command=("ollama", "list"), interval_seconds=10, start_seconds=60),
            networks=(Network.MODELS,),
            volumes=(volume,) if number == 1 else (),
            shares=() if number == 1 else (SharedVolume(name=VOLUME, path=MODELS_PATH),),
            memory_mb=chosen.memory_mb,
            cpus=chosen.cpus,
            shared_memory_mb=chosen.shared_memory_mb,
            temporary={TEMPORARY: 1024},
            extra=devices(self.settings.accelerator, chosen, visible),
        )

    def extend(self, platform: Platform, deployment: Deployment) -> Sequence[pulumi.Resource]:
        """Make the further servers, fetch every model of the settings, and remove those that are not in the settings any more."""
        further = [
            deploy_container(
                name,
                self.image,
                self._server(number),
                platform=platform,
                parent=deployment,
                # It makes the folders of the store, which the others only read.
                depends_on=[deployment.container],
            )
            for number, name in enumerate(servers(self.settings.ollama), 1)
            if number > 1
        ]
        jobs = [
            deploy_job(
                job_name(model),
                JOB_IMAGE,
                _job(task(model, self.settings.ollama), model),
                platform=platform,
                parent=deployment,
                depends_on=[deployment.container, *further],
            )
            for model in self.settings.models
        ]
        sweep = deploy_job(
            "models-removed",
            JOB_IMAGE,
            _job(remove_others(self.settings.models, self.settings.ollama)),
            platform=platform,
            parent=deployment,
            depends_on=jobs or [deployment.container],
        )
        return [*further, *jobs, sweep]


def servers(chosen: settings.Ollama) -> list[str]:
    """Return the names of the servers' containers. The first one, which alone writes to the models' volume, has the service's name."""
    return [Ollama.name, *(f"{Ollama.name}-{number}" for number in range(2, chosen.replicas + 1))]


def without_library(models: Sequence[OllamaModel], small: OllamaModel) -> tuple[OllamaModel, ...]:
    """Return the models where Ollama's library is out of reach: those from elsewhere, and a small one if the chat had none."""
    there = tuple(model for model in models if not model.from_library)
    return there if any(model.purpose == "chat" for model in there) else (small, *there)


def source(model: OllamaModel) -> Path:
    """Return the file that a model is made of, as an absolute path."""
    return named_file(model.file).resolve()


def task(model: OllamaModel, chosen: settings.Ollama) -> Mapping[str, Any]:
    """Return what a model's job has to do, as ``services/models/job.py`` reads it; repeated, it changes nothing.

    The digest of a model's first pull is noted in the models' volume, and another one is refused.
    """
    parameters = {
        **({"num_ctx": model.context_length} if model.context_length else {}),
        **({"num_predict": model.answer_tokens} if model.answer_tokens else {}),
        **({"temperature": model.temperature} if model.temperature is not None else {}),
    }
    return {
        "servers": [f"http://{name}:{PORT}" for name in servers(chosen)],
        "store": MODELS_PATH,
        "model": tagged(model.name),
        "file": model.file and f"/model/{source(model).name}",
        "url": _seen_from_a_container(model.url),
        "sha256": model.sha256,
        "digest": model.digest,
        "parameters": parameters,
        "limit_mb": chosen.memory_mb,
        "warm": _warm_servers(model, chosen),
        "keep_alive": _with_unit(_keep_alive(model)),
    }


def remove_others(models: Sequence[OllamaModel], chosen: settings.Ollama) -> Mapping[str, Any]:
    """Return the task that removes every model but these; nobody else can add one, as the queue refuses that."""
    return {
        "servers": [f"http://{servers(chosen)[0]}:{PORT}"],
        "store": MODELS_PATH,
        "kept": [tagged(model.name) for model in models],
        "downloads": [model.sha256 for model in models if model.url],
    }


def _warm_servers(model: OllamaModel, chosen: settings.Ollama) -> int:
    """Return on how many servers, the first ones, a model is warm."""
    return (model.replicas or chosen.replicas) if model.warm else 0


def _keep_alive(model: OllamaModel) -> str:
    """Return how long a model stays in memory; empty for what holds for all models."""
    return model.keep_alive or ("-1s" if model.warm else "")


def keep_alives(models: Sequence[OllamaModel]) -> Mapping[str, str]:
    """Return how long models stay in memory, for those that differ from the others.

    Ollama has one time for all models, or that of a request; it keeps the last request's as long as the model is loaded. So the queue
    adds it to every request that says none.
    """
    return {tagged(model.name): _with_unit(time) for model in models if (time := _keep_alive(model))}


def _with_unit(duration: str) -> str:
    """Return a time as Ollama's commands and interface take it: with a unit."""
    return f"{duration}s" if duration and duration[-1].isdigit() else duration


def _seen_from_a_container(url: str) -> str:
    """Return an address for the jobs: what is called localhost is the machine, not the container."""
    address = urllib.parse.urlsplit(url)
    if address.scheme != "http":
        return url
    port = f":{address.port}" if address.port else ""
    return address._replace(netloc=f"{MACHINE}{port}").geturl()


def _job(work: Mapping[str, Any], model: OllamaModel | None = None) -> Container:
    """Return the container of a job; ``model`` is the one that it makes."""
    on_the_machine = bool(model and model.url.startswith("http:"))
    program = (ROOT / "services" / "models" / "job.py").read_text(encoding="utf-8")
    return Container(
        entrypoint=("python3", "-c", program, json.dumps(work)),
        health=Health(command=("true",)),
        networks=(Network.MODELS,),
        shares=(SharedVolume(name=VOLUME, path=MODELS_PATH, read_only=False),),
        binds={f"/model/{source(model).name}": str(source(model))} if model and model.file else {},
        # As the server, to which the files belong.
        user="0",
        memory_mb=512,
        extra={"hosts": [docker.ContainerHostArgs(host=MACHINE, ip="host-gateway")]} if on_the_machine else {},
    )


def device_ids(chosen: settings.Ollama, number: int) -> Sequence[str]:
    """Return the graphics cards of a server: one each where there are several servers; empty is what ``gpu_count`` says."""
    if chosen.replicas == 1:
        return chosen.gpu_device_ids
    return (chosen.gpu_device_ids[number - 1] if chosen.gpu_device_ids else str(number - 1),)


def all_device_ids(chosen: settings.Ollama) -> Sequence[str]:
    """Return the graphics cards of all servers; empty is what ``gpu_count`` says."""
    return [each for number in range(1, chosen.replicas + 1) for each in device_ids(chosen, number)]


def devices(accelerator: Accelerator, chosen: settings.Ollama, visible: Sequence[str]) -> Mapping[str, Any]:
    """Return the container arguments that give it the accelerator; ``visible`` names the cards, empty is by ``gpu_count``."""
    if accelerator is Accelerator.NVIDIA:
        which: dict[str, Any] = {"device_ids": list(visible)} if visible else {"count": chosen.gpu_count}
        return {
            # Without a driver named, the provider asks for a CDI device.
            "device_requests": [docker.ContainerDeviceRequestArgs(driver="nvidia", capabilities=["gpu"], **which)]
        }
    if accelerator is Accelerator.AMD:
        return {
            "devices": [
                docker.ContainerDeviceArgs(host_path=path, container_path=path) for path in ("/dev/kfd", "/dev/dri")
            ],
            # By number: the image need not know the host's groups by name.
            **({"group_adds": [str(group) for group in chosen.gpu_group_ids]} if chosen.gpu_group_ids else {}),
        }
    return {}
