"""How long a plan takes, with the policies: ``python benchmarks/plan.py [STACK] [RESOURCES]``.

Prints wall and CPU seconds of a whole process, the modules that its imports cost most, and what the policies cost for many resources.
Bars: plan and policies of production under 4 s, 1,000 resources under 15 s.
"""

import re
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from operations import plan as plans  # noqa: E402  # only found once the path is right
from operations.plan import Plan  # noqa: E402
from policies import check  # noqa: E402

SHOWN = 12
"""Modules of the import breakdown."""

COMMAND = (sys.executable, "-m", "operations", "plan", "--json", "--stack")
"""What `./aikit plan` runs; the stack follows."""

IMPORT = re.compile(r"import time:\s*(\d+) \|\s*(\d+) \| ( *)(\S+)")


def say(line: str) -> None:
    """Print one line of the result."""
    sys.stdout.write(f"{line}\n")


def process(stack: str) -> tuple[float, float]:
    """Return wall and CPU seconds of a process that plans and judges a stack."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    subprocess.run([*COMMAND, stack], cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - started, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def imports(stack: str) -> list[tuple[str, int]]:
    """Return the packages whose modules cost most to import, with their own milliseconds."""
    arguments = [COMMAND[0], "-X", "importtime", *COMMAND[1:], stack]
    done = subprocess.run(arguments, cwd=ROOT, check=True, capture_output=True, text=True)
    own: dict[str, int] = {}
    for found in IMPORT.finditer(done.stderr):
        package = ".".join(found[4].split(".")[: 2 if found[4].startswith("pulumi.") else 1])
        own[package] = own.get(package, 0) + int(found[1])
    return sorted(((name, cost // 1000) for name, cost in own.items()), key=lambda item: -item[1])


def many(plan: Plan, count: int) -> Plan:
    """Return a plan with copies of a plan's resources, ``count`` in all."""
    resources = list(plan.custom())
    copies = [
        replace(resources[number % len(resources)], urn=f"{resources[number % len(resources)].urn}-{number}")
        for number in range(count)
    ]
    return replace(plan, resources=tuple(copies))


def _containers(count: int) -> None:
    """Declare containers with what a service's container usually has."""
    import pulumi_docker as docker

    for number in range(count):
        docker.Container(
            f"container-{number}",
            docker.ContainerArgs(
                image="docker.io/library/redis:8.0.2",
                memory=64,
                memory_swap=64,
                read_only=True,
                envs=["HOME=/tmp"],
                healthcheck=docker.ContainerHealthcheckArgs(tests=["CMD", "true"]),
                labels=[docker.ContainerLabelArgs(label="aikit.service", value="redis")],
            ),
        )


def main(stack: str = "prod", count: str = "1000") -> None:
    """Measure and print."""
    process(stack)
    walls = [process(stack) for _ in range(3)]
    wall, cpu = min(walls)
    say(f"plan and policies of stack {stack}, a whole process: {wall:.2f} s, {cpu:.2f} s CPU (best of 3)")

    started = time.process_time()
    planned = plans.plan(stack)
    first = time.process_time() - started
    started = time.process_time()
    plans.plan(stack)
    second = time.process_time() - started
    started = time.process_time()
    check.review(planned, stack)
    judged = time.process_time() - started
    number = len(planned.resources)
    say(
        f"{number} resources; program with its imports {first:.2f} s CPU, again {second:.2f} s, policies {judged * 1000:.1f} ms"
    )

    large = many(planned, int(count))
    started = time.process_time()
    check.review(large, stack)
    cost = time.process_time() - started
    say(f"policies for {count} resources: {cost:.3f} s CPU, {cost / int(count) * 1e6:.0f} us each")

    started = time.process_time()
    check.review(plans.record(lambda: _containers(int(count)), stack=stack), stack)
    say(f"plan and policies of a program with {count} containers: {time.process_time() - started:.2f} s CPU")

    say("imports, own time by package:")
    for name, milliseconds in imports(stack)[:SHOWN]:
        say(f"  {milliseconds:5} ms  {name}")


if __name__ == "__main__":
    main(*sys.argv[1:])
