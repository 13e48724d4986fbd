"""The project's own compose files on a real engine, under a name and a port of their own, gone at the end.

With the CPU override, and secrets and data in a temporary folder: nothing of an installation that runs beside it is
touched.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from nasdet_client.sdk import NasdetClient

REPOSITORY = Path(__file__).resolve().parent.parent.parent
SERVICES = ("postgres", "redis", "api", "searcher", "worker-cpu")
HEALTHY_SECONDS = 300.0
TAG = "compose-test"
DATASET = "demo"


class StackError(Exception):
    """What went wrong with the containers, in a sentence."""


def missing_engine() -> str | None:
    """Why the test cannot run here; None where it can."""
    if shutil.which("docker") is None:
        return "there is no docker on the PATH"
    if _run(["docker", "info"]).returncode != 0:
        return "the Docker engine does not answer"
    if compose_command() is None:
        return "there is neither 'docker compose' nor 'docker-compose'"
    return None


def compose_command() -> list[str] | None:
    """As the Makefile's targets choose it."""
    if _run(["docker", "compose", "version"]).returncode == 0:
        return ["docker", "compose"]
    return ["docker-compose"] if shutil.which("docker-compose") else None


class Stack:
    """One set of containers and volumes, with its secrets in `folder`."""

    def __init__(self, folder: Path, data_root: Path) -> None:
        self.name = f"nasdet-test-{secrets.token_hex(4)}"
        self._secrets = folder / f"{self.name}-secrets"
        self._port = _free_port()
        command = compose_command()
        if command is None:
            raise StackError("expected 'docker compose' or 'docker-compose' on the PATH, but there is neither")
        self._command = [*command, "-f", "docker-compose.yml", "-f", "docker-compose.cpu.yml"]
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("NASDET_")},
            "COMPOSE_PROJECT_NAME": self.name,
            "COMPOSE_HTTP_TIMEOUT": "600",
            "DATA_ROOT": str(data_root),
            "NASDET_PORT": str(self._port),
            "NASDET_SECRETS": str(self._secrets),
            "NASDET_SHM_SIZE": "1gb",
            "NASDET_SLOTS": "2",
            "NASDET_TAG": TAG,
        }
        self._must(["deploy/compose.sh", "secrets"])

    # --- as an operator does it ----------------------------------------------------------------------------------

    def build(self) -> None:
        self.compose("build")

    def up(self) -> None:
        """Everything, until all of it is healthy."""
        self.compose("up", "-d")
        for service in SERVICES:
            self.wait_until_healthy(service)

    def start(self, service: str) -> None:
        """One service again, as `up` would: it is there and killed, or removed."""
        self.compose("up", "-d", "--no-deps", "--no-recreate", service)
        self.wait_until_healthy(service)

    def kill(self, service: str) -> None:
        """`docker kill`: no signal that anybody could handle."""
        self._must(["docker", "kill", self.container(service)])

    def forget_volume(self, service: str, volume: str) -> None:
        """Remove a service's container and delete its volume."""
        self.compose("rm", "-f", "-s", service)
        self._must(["docker", "volume", "rm", f"{self.name}_{volume}"])

    def stop(self) -> dict[str, int]:
        """`make down` without removing anything: the exit code of each service."""
        self.compose("stop")
        shown = "{{.State.ExitCode}}"
        return {
            name: int(self._must(["docker", "inspect", "--format", shown, self.container(name)])) for name in SERVICES
        }

    def remove(self) -> None:
        """Containers, networks and volumes."""
        self.compose("down", "-v", "--remove-orphans", "--timeout", "5")

    def doctor(self, service: str) -> str:
        """What `nasdet doctor` says inside a container; raises StackError when something there will not work."""
        return self.compose("exec", "-T", service, "nasdet", "doctor")

    # --- looking -------------------------------------------------------------------------------------------------

    def client(self, *, patience_s: float = 120.0) -> NasdetClient:
        token = (self._secrets / "operator_token").read_text(encoding="utf-8").strip()
        return NasdetClient(f"http://127.0.0.1:{self._port}", token, patience_s=patience_s)

    def container(self, service: str) -> str:
        """Id of a service's one container, running or not."""
        command = ["docker", "ps", "-aq", "--filter", f"label=com.docker.compose.project={self.name}"]
        found = self._must([*command, "--filter", f"label=com.docker.compose.service={service}"]).split()
        if len(found) != 1:
            raise StackError(f"expected one container of the service {service}, found {len(found)}")
        return found[0]

    def health(self, service: str) -> str:
        """healthy, starting or unhealthy; what the container does where it does not run."""
        shown = '{{if eq .State.Status "running"}}{{.State.Health.Status}}{{else}}{{.State.Status}}{{end}}'
        return self._must(["docker", "inspect", "--format", shown, self.container(service)]).strip()

    def wait_until_healthy(self, service: str) -> None:
        deadline = time.monotonic() + HEALTHY_SECONDS
        while (health := self.health(service)) != "healthy":
            if time.monotonic() > deadline:
                raise StackError(
                    f"{service} is {health} after {HEALTHY_SECONDS:g} s; its last lines:\n{self.logs(service)}"
                )
            time.sleep(0.5)

    def logs(self, service: str, lines: int = 30) -> str:
        done = _run(["docker", "logs", "--tail", str(lines), self.container(service)])
        return done.stdout

    def compose(self, *arguments: str) -> str:
        return self._must([*self._command, *arguments])

    def _must(self, command: Sequence[str]) -> str:
        done = _run(command, self._environment)
        if done.returncode != 0:
            raise StackError(f"`{' '.join(command)}` ended with {done.returncode}:\n{done.stdout[-4000:]}")
        return done.stdout


def image_sizes(*images: str) -> dict[str, int]:
    """Bytes of each image, its base included."""
    sizes = {}
    for image in images:
        done = _run(["docker", "image", "inspect", "--format", "{{.Size}}", image])
        if done.returncode != 0:
            raise StackError(f"there is no image {image}: {done.stdout.strip()}")
        sizes[image] = int(done.stdout)
    return sizes


def _run(command: Sequence[str], environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Its output and its complaints together, in their order."""
    return subprocess.run(
        command,
        cwd=REPOSITORY,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
