"""Ollama: the server of the models, on the processor or on a graphics card, and the models themselves."""

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
import pulumi_docker as docker

from components.context import Platform
from components.images import OLLAMA, OLLAMA_AMD, Image
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
    deploy_job,
)
from settings import Accelerator, OllamaModel, named_file

PORT = 11434
MODELS_PATH = "/root/.ollama"


class Ollama(Service):
    """The model server. Only the queue and the models' own jobs can reach it."""

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
                expression='haproxy_server_status{proxy="ollama",state="UP"} == 0',
                seconds=60,
                severity=Severity.CRITICAL,
                kind="availability",
                summary="Ollama does not answer",
                description="The proxy's check of Ollama fails, so every request for a model is answered 503.",
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
                expression='increase(haproxy_frontend_http_responses_total{proxy="models",code="5xx"}[5m]) > 0',
                seconds=60,
                severity=Severity.WARNING,
                kind="refused",
                summary="Requests for a model were refused",
                description="In the last 5 minutes requests were answered 503: the queue was full, the wait too long, or Ollama away.",
            ),
            Alert(
                name="ModelsSlow",
                # HAProxy's average is over its last 1024 requests, so it stays when nobody asks.
                expression=(
                    f'haproxy_backend_response_time_average_seconds{{proxy="ollama"}} > {limits.answer_seconds}'
                    ' and rate(haproxy_backend_sessions_total{proxy="ollama"}[5m]) > 0'
                ),
                seconds=300,
                severity=Severity.WARNING,
                kind="latency",
                summary="Answers of the models begin after {{ $value | humanizeDuration }}",
                description=f"On average more than {limits.answer_seconds} s pass before the first byte of an answer.",
            ),
        )

    def container(self, platform: Platform) -> Container:
        """Return the server's container; the limits hold for every accelerator."""
        chosen = self.settings.ollama
        return Container(
            command=("serve",),
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
            },
            health=Health(command=("ollama", "list"), interval_seconds=10, start_seconds=60),
            networks=(Network.MODELS,),
            volumes=(DataVolume(name="ollama-models", path=MODELS_PATH),),
            memory_mb=chosen.memory_mb,
            cpus=chosen.cpus,
            shared_memory_mb=chosen.shared_memory_mb,
            temporary={TEMPORARY: 1024},
            extra=devices(self.settings.accelerator, chosen.gpu_count),
        )

    def extend(self, platform: Platform, deployment: Deployment) -> Sequence[pulumi.Resource]:
        """Fetch every model of the settings that is not there yet."""
        return [
            deploy_job(
                f"model-{model.name.replace('/', '-').replace(':', '-').replace('.', '-')}",
                self.image,
                self._fetch(model),
                platform=platform,
                parent=deployment,
                depends_on=[deployment.container],
            )
            for model in self.settings.models
        ]

    def _fetch(self, model: OllamaModel) -> Container:
        command = f"ollama show {model.name} >/dev/null 2>&1 || ollama pull {model.name}"
        binds: dict[str, str] = {}
        if model.file:
            path = named_file(model.file).resolve()
            limit = f"PARAMETER num_predict {model.answer_tokens}\\n" if model.answer_tokens else ""
            command = f"printf 'FROM /model/{path.name}\\n{limit}' > /tmp/Modelfile && ollama create {model.name} -f /tmp/Modelfile"
            binds = {f"/model/{path.name}": str(path)}
        return Container(
            entrypoint=("sh", "-c", command),
            environment={"OLLAMA_HOST": f"ollama:{PORT}", "HOME": TEMPORARY},
            health=Health(command=("true",)),
            networks=(Network.MODELS,),
            binds=binds,
            memory_mb=512,
            temporary={TEMPORARY: 64},
        )


def devices(accelerator: Accelerator, count: int) -> Mapping[str, Any]:
    """Return the container arguments that give it the accelerator; ``count`` -1 is every NVIDIA device."""
    if accelerator is Accelerator.NVIDIA:
        return {
            # Without a driver named, the provider asks for a CDI device.
            "device_requests": [docker.ContainerDeviceRequestArgs(driver="nvidia", count=count, capabilities=["gpu"])]
        }
    if accelerator is Accelerator.AMD:
        return {
            "devices": [
                docker.ContainerDeviceArgs(host_path=path, container_path=path) for path in ("/dev/kfd", "/dev/dri")
            ],
            "group_adds": ["video", "render"],
        }
    return {}
