"""Ollama: the server of the models, on the processor or on a graphics card, and the models themselves."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pulumi
import pulumi_docker as docker

import settings
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
        """Return the server's container; the limits hold for every accelerator."""
        chosen = self.settings.ollama
        nvidia = self.settings.accelerator is Accelerator.NVIDIA
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
                **({"NVIDIA_DRIVER_CAPABILITIES": "compute,utility"} if nvidia else {}),
            },
            health=Health(command=("ollama", "list"), interval_seconds=10, start_seconds=60),
            networks=(Network.MODELS,),
            volumes=(DataVolume(name="ollama-models", path=MODELS_PATH),),
            memory_mb=chosen.memory_mb,
            cpus=chosen.cpus,
            shared_memory_mb=chosen.shared_memory_mb,
            temporary={TEMPORARY: 1024},
            extra=devices(self.settings.accelerator, chosen),
        )

    def extend(self, platform: Platform, deployment: Deployment) -> Sequence[pulumi.Resource]:
        """Fetch every model of the settings that is not there yet, and remove those that are not in the settings any more."""
        jobs = [
            deploy_job(
                f"model-{model.name.replace('/', '-').replace(':', '-').replace('.', '-')}",
                self.image,
                _job(fetch(model), {f"/model/{source(model).name}": str(source(model))} if model.file else {}),
                platform=platform,
                parent=deployment,
                depends_on=[deployment.container],
            )
            for model in self.settings.models
        ]
        sweep = deploy_job(
            "models-removed",
            self.image,
            _job(remove_others(self.settings.models)),
            platform=platform,
            parent=deployment,
            depends_on=jobs or [deployment.container],
        )
        return [*jobs, sweep]


def source(model: OllamaModel) -> Path:
    """Return the file that a model is made of, as an absolute path."""
    return named_file(model.file).resolve()


def tagged(name: str) -> str:
    """Return a model's name as Ollama lists it."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def fetch(model: OllamaModel) -> str:
    """Return the commands that make a model what the settings say; repeated, they change nothing.

    A model that is there is not fetched again, so it keeps the digest of its first pull.
    """
    parameters = {"num_ctx": model.context_length, "num_predict": model.answer_tokens}
    file = "".join(f"PARAMETER {name} {value}\\n" for name, value in parameters.items() if value)
    make = f"> {TEMPORARY}/Modelfile && ollama create {model.name} -f {TEMPORARY}/Modelfile"
    commands: list[str] = []
    if model.file:
        path = f"/model/{source(model).name}"
        if model.sha256:
            commands.append(f"echo '{model.sha256}  {path}' | sha256sum --check --quiet")
        commands.append(f"printf 'FROM {path}\\n{file}' {make}")
    else:
        commands.append(f"ollama show {model.name} >/dev/null 2>&1 || ollama pull {model.name}")
        if model.digest:
            commands += [
                f"found=$(ollama list | awk '$1 == \"{tagged(model.name)}\" {{print $2}}')",
                f'if [ "$found" != {model.digest} ]; then echo "{model.name} has the digest $found, not {model.digest} '
                f'as aikit:models says: correct it there" >&2; ollama rm {model.name}; exit 1; fi',
            ]
        elif file:
            commands.append(f"printf 'FROM {model.name}\\n{file}' {make}")
    if model.warm:
        commands.append(f"ollama run --keepalive -1s {model.name} '' >/dev/null")
    return "set -e; " + "; ".join(commands)


def remove_others(models: Sequence[OllamaModel]) -> str:
    """Return the command that removes every model but these; nobody else can add one, as the queue refuses that."""
    kept = " ".join(tagged(model.name) for model in models)
    return (
        "set -e; ollama list | awk 'NR > 1 {print $1}' | while read -r name; do "
        f'case " {kept} " in *" $name "*) ;; *) ollama rm "$name";; esac; done'
    )


def _job(command: str, binds: Mapping[str, str] | None = None) -> Container:
    return Container(
        entrypoint=("sh", "-c", command),
        environment={"OLLAMA_HOST": f"ollama:{PORT}", "HOME": TEMPORARY},
        health=Health(command=("true",)),
        networks=(Network.MODELS,),
        binds=binds or {},
        memory_mb=512,
        temporary={TEMPORARY: 64},
    )


def devices(accelerator: Accelerator, chosen: settings.Ollama) -> Mapping[str, Any]:
    """Return the container arguments that give it the accelerator."""
    if accelerator is Accelerator.NVIDIA:
        which: dict[str, Any] = (
            {"device_ids": list(chosen.gpu_device_ids)} if chosen.gpu_device_ids else {"count": chosen.gpu_count}
        )
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
