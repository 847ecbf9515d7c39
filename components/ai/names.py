"""Names of models that those need, too, who look at them without deploying them; importing them costs nothing."""

from settings import OllamaModel


def job_name(model: OllamaModel) -> str:
    """Return the name of a model's job."""
    return f"model-{model.name.replace('/', '-').replace(':', '-').replace('.', '-')}"


def tagged(name: str) -> str:
    """Return a model's name as Ollama lists it."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"
