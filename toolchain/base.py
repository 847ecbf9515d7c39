"""Base images of the Debian releases, made from Debian's own package archive by debootstrap."""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import docker
import requests
from docker.errors import ImageNotFound

from toolchain.errors import ToolchainError
from toolchain.packages import install_packages
from toolchain.processes import exclusive, run

Release = Literal["trixie", "bookworm"]

VERSION = "1"
"""Raise it when the recipe below changes, or to take up the archive's newer packages."""

AUTHORITIES = Path("/usr/local/share/ca-certificates")
APT = Path("/etc/apt")
DEFAULT_MIRROR = "http://deb.debian.org/debian"
REPOSITORY = "aikit/base"

APT_CONFIGURATION = """\
# Layers stay small and builds never ask.
APT::Install-Recommends "false";
APT::Install-Suggests "false";
APT::Get::Assume-Yes "true";
Acquire::GzipIndexes "false";
Acquire::Languages "none";
Acquire::Retries "3";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb /var/cache/apt/*.bin || true"; };
"""

DPKG_CONFIGURATION = """\
# A build that fails is thrown away, so nothing has to reach the disk early.
force-unsafe-io
# Nobody reads manuals in a container; licences stay.
path-exclude=/usr/share/doc/*
path-include=/usr/share/doc/*/copyright
path-exclude=/usr/share/groff/*
path-exclude=/usr/share/info/*
path-exclude=/usr/share/linda/*
path-exclude=/usr/share/lintian/*
path-exclude=/usr/share/locale/*
path-exclude=/usr/share/man/*
"""

# Packages register alternatives among the manuals and fail where those directories are missing.
FINISH = """\
set -e
echo 'debconf debconf/frontend select Noninteractive' | debconf-set-selections
update-ca-certificates >/dev/null
apt-get update -q
apt-get upgrade -q -y
apt-get clean
find /usr/share/doc -mindepth 2 ! -name copyright ! -type d -delete
find /usr/share/doc -mindepth 1 -type d -empty -delete
rm -rf /usr/share/groff/* /usr/share/info/* /usr/share/lintian/* /usr/share/locale/* /usr/share/man/*
mkdir -p /usr/share/man/man1 /usr/share/man/man5 /usr/share/man/man7 /usr/share/man/man8
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/debconf/*-old /var/lib/dpkg/*-old
rm -rf /var/log/*.log /var/log/apt/* /tmp/* /etc/resolv.conf /etc/hostname
: > /etc/machine-id
"""

# A package that starts its service while it is installed would leave processes and files in a layer.
POLICY = "#!/bin/sh\nexit 101\n"


@dataclass(frozen=True, kw_only=True)
class Mirrors:
    """Where Debian's packages come from; addresses without a slash at the end."""

    packages: str
    security: str


def mirrors(apt: Path = APT) -> Mirrors:
    """Take the mirror that this machine's own apt uses, else Debian's public one."""
    text = ""
    for file in sorted([*apt.glob("*.list"), *apt.glob("*.list.d/*.list"), *apt.glob("sources.list.d/*.sources")]):
        text += re.sub(r"(?m)^\s*#.*$", "", file.read_text(encoding="utf-8", errors="replace")) + "\n"
    found = [address.rstrip("/") for address in re.findall(r"https?://[^\s\]]+", text)]
    packages = next((address for address in found if address.endswith("/debian")), DEFAULT_MIRROR)
    security = next((address for address in found if address.endswith("/debian-security")), f"{packages}-security")
    return Mirrors(packages=packages, security=security)


def authorities(directory: Path = AUTHORITIES) -> Sequence[Path]:
    """Certificate authorities that this machine trusts beyond the usual ones."""
    return sorted(directory.glob("*.crt"))


def base_tag(release: Release, sources: Mirrors, certificates: Sequence[Path]) -> str:
    """Name the base image by everything that decides its content."""
    digest = hashlib.sha256()
    recipe = (VERSION, APT_CONFIGURATION, DPKG_CONFIGURATION, FINISH, POLICY)
    for part in (*recipe, release, sources.packages, sources.security):
        digest.update(part.encode() + b"\0")
    for certificate in certificates:
        digest.update(certificate.name.encode() + b"\0" + certificate.read_bytes() + b"\0")
    return f"{REPOSITORY}:{release}-{digest.hexdigest()[:12]}"


def base_image(client: docker.DockerClient, release: Release, report: Callable[[str], None]) -> str:
    """Return the tag of the base image of `release`, making it first where the daemon doesn't have it (about a minute).

    Raises:
        ToolchainError: it can't be made on this machine.
    """
    sources, certificates = mirrors(), authorities()
    tag = base_tag(release, sources, certificates)
    with exclusive(Path(tempfile.gettempdir()) / f"aikit-base-{release}-{os.getuid()}.lock"):
        if _has(client, tag):
            return tag
        _need_debootstrap(report)
        report(f"making the base image {tag} from {sources.packages}")
        with tempfile.TemporaryDirectory(prefix="aikit-base-") as directory:
            root = Path(directory) / "root"
            _bootstrap(root, release, sources, certificates)
            _load(client, root, tag)
    return tag


def _has(client: docker.DockerClient, tag: str) -> bool:
    try:
        client.images.get(tag)
    except ImageNotFound:
        return False
    return True


def _need_debootstrap(report: Callable[[str], None]) -> None:
    if os.geteuid() != 0:
        raise ToolchainError(
            "Can't make a base image: debootstrap needs root; run this as root, or use official images."
        )
    if shutil.which("debootstrap"):
        return
    if not shutil.which("apt-get"):
        raise ToolchainError("Can't make a base image: debootstrap is missing; install it with your package manager.")
    report("installing debootstrap")
    install_packages(
        ("debootstrap", "debian-archive-keyring"),
        purpose="install debootstrap (do it yourself: apt-get install debootstrap debian-archive-keyring)",
    )


def _reachable(address: str) -> bool:
    try:
        return requests.head(address, timeout=10, allow_redirects=True).ok
    except requests.RequestException:
        return False


def _sources_list(release: Release, sources: Mirrors) -> str:
    lines = [f"deb {sources.packages} {release} main"]
    for mirror, suite in ((sources.packages, f"{release}-updates"), (sources.security, f"{release}-security")):
        if _reachable(f"{mirror}/dists/{suite}/InRelease"):
            lines.append(f"deb {mirror} {suite} main")
    return "\n".join(lines) + "\n"


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)


def _bootstrap(root: Path, release: Release, sources: Mirrors, certificates: Sequence[Path]) -> None:
    # Nothing below has to survive a crash, and waiting for the disk is half of debootstrap's time.
    quick = {"DEBIAN_FRONTEND": "noninteractive", "DPKG_FORCE": "unsafe-io", "LC_ALL": "C.UTF-8"}
    run(
        ["debootstrap", "--variant=minbase", "--include=ca-certificates", release, str(root), sources.packages],
        purpose=f"make a base image of Debian {release}",
        environment=quick,
    )
    _write(root / "etc/apt/sources.list", _sources_list(release, sources))
    _write(root / "etc/apt/apt.conf.d/90small", APT_CONFIGURATION)
    _write(root / "etc/dpkg/dpkg.cfg.d/90small", DPKG_CONFIGURATION)
    _write(root / "usr/sbin/policy-rc.d", POLICY, 0o755)
    for certificate in certificates:
        shutil.copy(certificate, root / "usr/local/share/ca-certificates" / certificate.name)
    run(["chroot", str(root), "/bin/sh", "-c", FINISH], purpose=f"update Debian {release}", environment=quick)


def _load(client: docker.DockerClient, root: Path, tag: str) -> None:
    repository, _, version = tag.rpartition(":")
    command = ["tar", "--create", "--numeric-owner", "--one-file-system", "--directory", str(root)]
    command += ["--exclude=./dev/*", "--exclude=./proc/*", "--exclude=./sys/*", "."]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as tar:
        client.api.import_image_from_stream(tar.stdout, repository=repository, tag=version, changes=['CMD ["bash"]'])
    if tar.returncode != 0 or not _has(client, tag):
        raise ToolchainError(f"Can't hand {tag} to the Docker daemon: see its log, and whether the disk is full.")
