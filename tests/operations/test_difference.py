"""What changes between two revisions, and how it is shown."""

import dataclasses
import functools
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pulumi
import pulumi_docker as docker
import pulumi_random as random
import pulumi_vault as vault
import pytest

from operations import difference
from operations import plan as plans
from operations.difference import Action, Difference, compare
from operations.plan import Plan, PlanError

COMMIT = "0123456789abcdef0123456789abcdef01234567"

CONFIGURATION = "global\n" + "".join(f"  line {number}\n" for number in range(40)) + "  timeout 5s\n"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Version:
    """One version of a small platform."""

    image: str = "docker.io/library/redis:8.0.2"
    memory: int = 128
    interval: str = "5s"
    configuration: str = CONFIGURATION
    volume: str = "data"
    protect: bool = False
    retain: bool = False
    privileged: bool = False
    length: int = 20
    cures: bool = True
    second: bool = False
    in_memory: bool = False
    password: str = "password"
    aliases: tuple[str, ...] = ()
    internal: bool = False
    driver: str = "local"


@functools.cache
def planned(version: Version, stack: str = "prod") -> Plan:
    """Plan a version."""

    def program() -> None:
        group = pulumi.ComponentResource("aikit:data:Redis", "redis")
        child = pulumi.ResourceOptions(parent=group)
        aliases = [pulumi.Alias(name=name) for name in version.aliases]
        password = random.RandomPassword(
            version.password, length=version.length, opts=pulumi.ResourceOptions(aliases=aliases)
        )
        image = docker.RemoteImage("image", docker.RemoteImageArgs(name=version.image), child)
        data = docker.Volume(
            "data",
            docker.VolumeArgs(name=version.volume, labels=[docker.VolumeLabelArgs(label="aikit.data", value="true")]),
            pulumi.ResourceOptions(parent=group, protect=version.protect, retain_on_delete=version.retain),
        )
        network = docker.Network("net", docker.NetworkArgs(name="net-of-data", internal=version.internal), child)
        scratch = docker.Volume("scratch", docker.VolumeArgs(name="of-scratch", driver=version.driver), child)
        carrier = docker.Container(
            "files",
            docker.ContainerArgs(
                image="true:1",
                start=False,
                uploads=[
                    docker.ContainerUploadArgs(file="/redis.conf", content=version.configuration),
                    docker.ContainerUploadArgs(file="/password", content=password.result),
                ],
            ),
            child,
        )
        docker.Container(
            "server",
            docker.ContainerArgs(
                image=image.image_id,
                memory=version.memory,
                memory_swap=version.memory,
                privileged=version.privileged or None,
                destroy_grace_seconds=30,
                labels=[
                    docker.ContainerLabelArgs(label="aikit.service", value="redis"),
                    docker.ContainerLabelArgs(label="aikit.files", value=str(hash(version.configuration))),
                ],
                healthcheck=docker.ContainerHealthcheckArgs(
                    tests=["CMD", "true"], interval=version.interval, retries=5, start_period="20s"
                ),
                volumes=[
                    docker.ContainerVolumeArgs(volume_name=data.name, container_path="/data"),
                    docker.ContainerVolumeArgs(volume_name="of-scratch", container_path="/scratch"),
                ],
                networks_advanced=[docker.ContainerNetworksAdvancedArgs(name="net-of-data")],
            ),
            pulumi.ResourceOptions(
                parent=group,
                depends_on=[carrier, network, scratch],
                replace_on_changes=["healthcheck"] if version.cures else None,
            ),
        )
        if version.in_memory:
            entry = vault.kv.SecretV2(
                "entry",
                vault.kv.SecretV2Args(mount="secret", name="files/web", data_json=password.result.apply(json.dumps)),
                child,
            )
            agent = docker.Container(
                "agent",
                docker.ContainerArgs(image="vault:1", envs=["CONTENT=a hash"]),
                pulumi.ResourceOptions(parent=group, depends_on=[entry]),
            )
            for name in ("web", "other"):
                docker.Container(
                    name,
                    docker.ContainerArgs(
                        image="web:1",
                        labels=[
                            docker.ContainerLabelArgs(label="aikit.service", value=name),
                            docker.ContainerLabelArgs(label="aikit.secrets", value="a hash"),
                        ],
                    ),
                    pulumi.ResourceOptions(parent=group, depends_on=[agent]),
                )
        if version.second:
            docker.Container("second", docker.ContainerArgs(image="redis:8.0.2", must_run=False), child)
        pulumi.export("image", version.image)

    return plans.record(program, stack=stack)


def changed(old: Version, new: Version) -> dict[str, difference.ResourceChange]:
    """Compare two versions, and return the changes by name."""
    return {change.name: change for change in compare(planned(old), planned(new))}


def differing(old: Version, new: Version, stack: str = "prod") -> Difference:
    """Compare two versions with everything around it."""
    return difference.difference(stack, planned(old, stack), planned(new, stack), base="main", commit=COMMIT)


@pytest.mark.spec("CI-01", "OPS-05")
def test_equal_versions_have_no_difference() -> None:
    """Nothing is listed, and the headline says so."""
    result = differing(Version(), Version())
    assert result.changes == ()
    assert "no changes" in difference.markdown(result)


@pytest.mark.spec("CI-01", "OPS-05")
def test_a_change_in_place_shows_old_and_new() -> None:
    """Memory is changed while the container runs."""
    server = changed(Version(), Version(memory=256))["server"]
    assert server.action is Action.CHANGED
    assert server.restart is None
    assert difference.lines_of(server) == ["- memory: 128", "+ memory: 256", "- memorySwap: 128", "+ memorySwap: 256"]


@pytest.mark.spec("CI-01", "OPS-05")
def test_a_new_image_replaces_what_uses_it() -> None:
    """The container's reference stays the same text, and yet it gets another image."""
    found = changed(Version(), Version(image="docker.io/library/redis:8.0.3"))
    assert set(found) == {"image", "server"}
    assert found["image"].action is found["server"].action is Action.REPLACED
    assert found["server"].changes[0].because == "image"
    assert "because image is replaced" in difference.lines_of(found["server"])[0]


@pytest.mark.spec("CI-01", "OPS-05")
def test_a_new_secret_replaces_the_files_and_their_reader() -> None:
    """A password's replacement reaches the container through the carrier of its files."""
    found = changed(Version(), Version(length=30))
    assert {name for name, change in found.items() if change.action is Action.REPLACED} == {
        "password",
        "files",
        "server",
    }
    assert "new secret" in found["password"].loss
    assert difference.lines_of(found["server"]) == ["! its files change (replaces it)"]


@pytest.mark.spec("CI-01", "OPS-05", "VLT-11")
def test_a_new_secret_replaces_the_agent_and_whose_memory_it_is_in() -> None:
    """It reaches the container through an entry of Vault, and no other container restarts."""
    found = changed(Version(in_memory=True), Version(in_memory=True, length=30))
    replaced = {name for name, change in found.items() if change.action is Action.REPLACED}
    assert replaced - {"password", "files", "server"} == {"agent", "web"}
    assert found["entry"].action is Action.CHANGED
    assert difference.lines_of(found["agent"]) == ["! its entries in Vault change (replaces it)"]
    assert difference.lines_of(found["web"]) == ["! its secrets change (replaces it)"]


@pytest.mark.spec("CI-01", "OPS-05")
@pytest.mark.parametrize(
    ("version", "source", "path"),
    [
        (Version(internal=True), "net", "networksAdvanced[net-of-data]"),
        (Version(driver="other"), "scratch", "volumes[/scratch]"),
    ],
)
def test_what_holds_a_replaced_network_or_volume_is_replaced(version: Version, source: str, path: str) -> None:
    """Docker removes neither while a container has it; the plan has its name as text, and no reference."""
    found = changed(Version(), version)
    assert {name for name, change in found.items() if change.action is Action.REPLACED} == {source, "server"}
    (reason,) = found["server"].changes
    assert (reason.path, reason.because, reason.replaces) == (path, source, True)
    assert found["server"].restart is not None


@pytest.mark.spec("CI-01", "OPS-05")
def test_protection_that_is_taken_off_is_shown() -> None:
    found = changed(Version(protect=True, retain=True), Version(protect=False, retain=True))
    assert found["data"].action is Action.CHANGED
    assert [(item.path, item.old, item.new) for item in found["data"].changes] == [("(protect)", True, False)]


@pytest.mark.spec("CI-01", "OPS-05")
def test_a_file_is_shown_as_a_text_difference() -> None:
    """Only the changed line with its surroundings, not the whole file."""
    lines = difference.lines_of(changed(Version(), Version(configuration=CONFIGURATION.replace("5s", "6s")))["files"])
    assert "-  timeout 5s" in lines
    assert "+  timeout 6s" in lines
    assert len(lines) < 12
    assert lines[0].startswith("  uploads[/redis.conf].content:")


@pytest.mark.spec("CI-01")
def test_a_change_that_the_provider_would_not_make_is_said() -> None:
    """A health check changes nothing unless it is told to replace."""
    cured = changed(Version(), Version(interval="9s"))["server"]
    assert cured.action is Action.REPLACED
    silent = changed(Version(cures=False), Version(cures=False, interval="9s"))["server"]
    assert silent.action is Action.CHANGED
    assert silent.changes[0].silent
    assert "DOES NOT DO IT" in difference.lines_of(silent)[1]


@pytest.mark.spec("CI-01", "OPS-05")
@pytest.mark.parametrize(
    ("version", "said"),
    [
        (Version(), "ALL DATA IN THE VOLUME IS DELETED"),
        (Version(retain=True), "the new one is empty"),
        (Version(protect=True), "the engine refuses"),
    ],
)
def test_losing_data_is_said_loudly(version: Version, said: str) -> None:
    """What happens to the data depends on the old volume's protection, and stands above everything."""
    result = differing(version, dataclasses.replace(version, volume="other", protect=False, retain=False))
    assert [change.name for change in result.losses] == ["data"]
    assert said in result.losses[0].loss
    text = difference.markdown(result)
    assert "[!CAUTION]" in text
    assert text.index("[!CAUTION]") < text.index("<details")


@pytest.mark.spec("CI-01")
def test_what_is_created_deleted_and_renamed() -> None:
    """A rename with an alias keeps the resource; without one it is deleted and made anew."""
    found = changed(Version(), Version(second=True))
    assert {name: change.action for name, change in found.items()} == {"second": Action.CREATED}
    found = changed(Version(second=True), Version())
    assert {name: change.action for name, change in found.items()} == {"second": Action.DELETED}
    renamed = changed(Version(), Version(password="key", aliases=("password",)))
    assert renamed["key"].action is Action.MOVED
    assert "password" not in renamed
    lost = changed(Version(), Version(password="key"))
    assert lost["password"].action is Action.DELETED
    assert lost["key"].action is Action.CREATED


@pytest.mark.spec("OPS-05", "CI-01")
def test_restarts_and_downtime_are_estimated() -> None:
    """From the health check and the time to stop."""
    restart = changed(Version(), Version(image="docker.io/library/redis:8.0.3"))["server"].restart
    assert restart == difference.Restart(
        service="redis", job=False, typical_seconds=7, longest_seconds=2 + 30 + 20 + 25
    )


@pytest.mark.spec("CI-01", "SEC-04", "OPS-02")
def test_policies_gate_and_new_violations_are_marked() -> None:
    """What was wrong before is told from what the change does wrong."""
    result = differing(Version(), Version(privileged=True))
    assert {item.policy for item in result.introduced} == {"no-privileged"}
    assert result.review.blocking
    assert "mandatory, new: no-privileged" in difference.markdown(result)
    assert result.to_json()["policies"]["allowed"] is False
    assert differing(Version(privileged=True), Version()).resolved == 1


@pytest.mark.spec("CI-01")
def test_the_same_versions_give_the_same_bytes() -> None:
    """Markdown and JSON alike."""
    texts: set[str] = set()
    for _ in range(2):
        planned.cache_clear()
        result = differing(Version(), Version(memory=256, length=30, second=True))
        texts.add(difference.markdown(result) + json.dumps(result.to_json()))
    assert len(texts) == 1


def outside(text: str) -> str:
    """Return Markdown without its fenced blocks; an open one is left."""
    return re.sub(r"^(`{3,})diff\n.*?^\1$\n", "", text, flags=re.MULTILINE | re.DOTALL)


def whole(text: str) -> bool:
    """Whether every code fence and every ``<details>`` is closed."""
    rest = outside(text)
    return "```" not in rest and rest.count("<details") == rest.count("</details>")


@pytest.mark.spec("CI-01")
@pytest.mark.parametrize("limit", [1500, 2000, 3000, 5000, 20_000, 65_536])
def test_a_comment_is_cut_without_breaking(limit: int) -> None:
    """Whatever the room, it fits, every fence is closed, and what is missing is said."""
    long = "".join(f"```` line {number}\n" for number in range(5000))
    result = differing(Version(), Version(configuration=long, memory=256, second=True, length=33))
    text = difference.markdown(result, limit)
    assert len(text) <= limit
    assert whole(text)
    assert "more lines" in text or "more changes" in text


@pytest.mark.spec("CI-01")
def test_a_change_can_not_break_out_of_the_comment() -> None:
    """Backticks, tags and mentions in a pull request's values stay text."""
    nasty = "```\n</details><script>alert(1)</script> @everyone\n````\n"
    text = difference.markdown(
        differing(Version(), Version(configuration=nasty, image="a`b<script>![x](https://example.org):@everyone"))
    )
    assert whole(text)
    for dangerous in ("<script", "@everyone", "](http"):
        assert dangerous not in re.sub(r"`[^`\n]*`", "", outside(text))


@pytest.mark.spec("CI-01")
def test_replace_rules_cover_containers_as_the_provider_does() -> None:
    """Every input of a container is replaced by default; the exceptions exist and do not overlap."""
    import inspect

    names = {
        re.sub(r"_(\w)", lambda found: found[1].upper(), name)
        for name in inspect.signature(docker.ContainerArgs.__init__).parameters
    }
    assert names >= difference.BOOKKEEPING | difference.SILENT
    assert not difference.BOOKKEEPING & difference.SILENT
    # Without a line in the table for each type: what the providers know is what the comparison knows.
    (server,) = [each for each in planned(Version()).resources if each.name == "server"]
    for name, expected in {"image": True, "memory": False, "mustRun": False, "healthcheck": True, "envs": True}.items():
        assert difference.replaces(server, name, "a", "b") == expected, name
    assert difference.replaces(server, "memory", 128, None), "a limit cannot be lifted from a container that exists"


PROGRAM = """\
import pulumi_docker as docker
import pulumi_random as random
docker.Volume("data", docker.VolumeArgs(name={volume!r}))
random.RandomPassword("password", length={length})
print("noise on the output")
"""


def git(root: Path, *arguments: str) -> None:
    subprocess.run(
        ["git", "-C", str(root), "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments],
        check=True,
        capture_output=True,
    )


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with a small program and one commit."""
    git(tmp_path, "init", "--quiet", "--initial-branch=main")
    (tmp_path / "Pulumi.yaml").write_text("name: small\nruntime: python\n")
    (tmp_path / "Pulumi.dev.yaml").write_text("config: {}\n")
    (tmp_path / "__main__.py").write_text(PROGRAM.format(volume="data", length=20))
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message=first")
    return tmp_path


@pytest.mark.spec("CI-01", "INF-04")
def test_the_working_tree_is_compared_with_a_revision(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without committing anything, in each form, and with the exit code of the policies."""
    (repository / "__main__.py").write_text(PROGRAM.format(volume="data", length=32))
    assert difference.command("dev", "main", markdown=True, root=repository) == 0
    text = capsys.readouterr().out
    assert text.startswith("<!-- aikit plan dev -->\n")
    assert "- length: 20" in text
    assert "+ length: 32" in text
    assert difference.command("dev", "HEAD", as_json=True, root=repository) == 0
    data: Mapping[str, Any] = json.loads(capsys.readouterr().out)
    assert data["counts"]["replaced"] == 1
    assert len(data["commit"]) == 40
    assert difference.command("dev", "HEAD", root=repository) == 0
    assert "password" in capsys.readouterr().out


@pytest.mark.spec("CI-01", "OPS-02")
def test_a_violation_is_exit_code_1(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A gate of a pipeline needs nothing else."""
    bad = 'docker.Container("bad", docker.ContainerArgs(image="redis", privileged=True))\n'
    (repository / "__main__.py").write_text(PROGRAM.format(volume="data", length=20) + bad)
    assert difference.command("dev", "main", markdown=True, root=repository) == 1
    assert "not allowed" in capsys.readouterr().out


@pytest.mark.spec("OPS-02")
def test_what_can_not_be_compared_is_one_sentence(repository: Path) -> None:
    """A revision that does not exist, one that looks like an option, and a program that fails."""
    for revision in ("nowhere", "--output=x"):
        with pytest.raises(PlanError, match="is no revision"):
            difference.against("dev", revision, repository)
    (repository / "__main__.py").write_text("raise ValueError('broken')\n")
    with pytest.raises(PlanError, match="broken"):
        difference.against("dev", "main", repository)
    git(repository, "commit", "--quiet", "--all", "--message=broken")
    (repository / "__main__.py").write_text(PROGRAM.format(volume="data", length=20))
    with pytest.raises(PlanError, match=r"revision [0-9a-f]{12} failed"):
        difference.against("dev", "main", repository)


@pytest.mark.spec("CI-01")
def test_a_new_stack_is_created_as_a_whole(repository: Path) -> None:
    """A stack that the revision does not have is compared with nothing."""
    (repository / "Pulumi.berlin.yaml").write_text("config: {}\n")
    result = difference.against("berlin", "main", repository)
    assert result.counts["created"] == 2


@pytest.mark.spec("CI-01")
def test_no_secret_of_the_shell_reaches_the_other_revision(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another revision's code sees neither tokens nor the passphrase."""
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "hunter2")
    (repository / "__main__.py").write_text(
        "import os, pulumi\npulumi.export('seen', str(sorted(name for name in os.environ if 'PULUMI' in name)))\n"
    )
    assert plans.plan("dev", repository).outputs["seen"] == "[]"


@pytest.mark.spec("CI-01", "INF-04")
def test_the_real_project_is_compared_with_a_copy_of_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A change of one setting shows in the configuration, with restarts, and nowhere else."""
    for name in ("components", "services", "settings.py", "__main__.py"):
        source = plans.ROOT / name
        copy: Callable[[Path, Path], Any] = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, tmp_path / name)
    for source in plans.ROOT.glob("Pulumi*.yaml"):
        shutil.copy(source, tmp_path / source.name)
    git(tmp_path, "init", "--quiet", "--initial-branch=main")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message=first")
    with (tmp_path / "Pulumi.dev.yaml").open("a") as file:
        file.write("  aikit:edge-requests-per-10-seconds: 42\n")
    result = difference.against("dev", "main", tmp_path)
    assert {change.component for change in result.changes} == {"haproxy"}
    text = difference.markdown(result)
    assert "-    acl too_many sc_http_req_rate(0) gt 100" in text
    assert "+    acl too_many sc_http_req_rate(0) gt 42" in text
    assert "haproxy is away" in text
    assert str(tmp_path) not in text
    del capsys
