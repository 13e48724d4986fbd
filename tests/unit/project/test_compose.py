"""The compose files and Dockerfiles as text. `make compose-test` runs them on a real engine."""

from __future__ import annotations

import fnmatch
import os
import re
import runpy
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from services.common.settings import ApiSettings, HomeSettings, SearcherSettings, WorkerSettings

OWN = ("api", "searcher", "worker", "worker-cpu")
SECRETS = ("postgres_password", "redis_password", "operator_token", "worker_token", "metrics_token")
S3_KEYS = "s3_credentials"  # empty until somebody writes theirs
S3_VARIABLES = {"AWS_SHARED_CREDENTIALS_FILE", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL"}
FILES = ("docker-compose.yml", "docker-compose.cpu.yml", "deploy/worker.compose.yml")
Service = dict[str, Any]


def _read(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    return loaded


@pytest.fixture(scope="module")
def services(repository: Path) -> dict[str, Service]:
    """Every service, with what it extends: lists added up, mappings merged, as compose does it."""
    found: dict[str, Service] = {}
    for name in FILES[:2]:
        for service, body in _read(repository / name)["services"].items():
            base: Service = {}
            if "extends" in body:
                base = _read(repository / body["extends"]["file"])["services"][body["extends"]["service"]]
            found.setdefault(service, {}).update(_merged(base, body))
    return found


def _merged(base: Service, body: Service) -> Service:
    merged = dict(base)
    for key, value in body.items():
        if isinstance(value, dict):
            merged[key] = {**base.get(key, {}), **value}
        elif isinstance(value, list) and key != "command":
            merged[key] = [*base.get(key, []), *value]
        else:
            merged[key] = value
    return merged


class TestServices:
    def test_all_are_there(self, services: dict[str, Service]) -> None:
        assert set(services) == {"postgres", "redis", *OWN}

    @pytest.mark.parametrize("name", OWN)
    def test_own_ones_may_do_little(self, services: dict[str, Service], name: str) -> None:
        service = services[name]

        assert service["user"] == "10001:10001"
        assert service["read_only"] is True
        assert service["init"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert "privileged" not in service
        assert "/tmp" in service["tmpfs"]

    def test_all_have_a_health_check_a_way_back_and_a_limited_log(self, services: dict[str, Service]) -> None:
        for name, service in services.items():
            assert service["healthcheck"]["test"], name
            assert service["restart"] == ("on-failure" if name.startswith("worker") else "unless-stopped"), name
            assert service["stop_grace_period"], name
            assert service["logging"]["options"]["max-size"], name

    def test_only_the_api_is_reached_from_this_machine_and_from_no_other(self, services: dict[str, Service]) -> None:
        assert {name for name, service in services.items() if "ports" in service} == {"api"}
        (port,) = services["api"]["ports"]
        assert port.startswith("127.0.0.1:")
        assert port.endswith(":8765")

    def test_workers_hold_no_way_to_the_database(self, services: dict[str, Service]) -> None:
        for name in ("worker", "worker-cpu"):
            assert sorted(services[name]["secrets"]) == ["redis_password", "worker_token"]
            assert "database" not in services[name]["networks"]
            assert not any("DATABASE" in key for key in services[name]["environment"])
        assert set(services["postgres"]["networks"]) == {"database"}

    def test_networks_lead_nowhere_unless_a_port_is_published(self, repository: Path) -> None:
        networks = _read(repository / FILES[0])["networks"]

        assert [name for name, network in networks.items() if not network.get("internal")] == ["published"]

    def test_the_data_root_is_the_same_in_api_and_workers(self, services: dict[str, Service]) -> None:
        for name in ("api", "worker", "worker-cpu"):
            assert "${DATA_ROOT:-./data}:/data:ro" in services[name]["volumes"]
            assert services[name]["environment"]["NASDET_DATA_ROOT"] == "/data"

    def test_postgres_hears_when_it_should_stop(self, services: dict[str, Service]) -> None:
        """An init that runs as root without CAP_KILL cannot signal a server that stepped down: Postgres would crash."""
        postgres = services["postgres"]

        assert "KILL" not in postgres["cap_add"]
        assert "init" not in postgres

    def test_redis_loses_nothing_by_itself_and_shows_no_password(self, services: dict[str, Service]) -> None:
        script = services["redis"]["command"][-1]

        assert "requirepass $$(cat /run/secrets/redis_password)" in script
        assert "--requirepass" not in script  # arguments can be read by everybody on the machine
        assert "appendonly yes" in script
        assert "noeviction" in script

    def test_the_gpu_worker_gets_all_gpus_and_the_override_replaces_it(self, repository: Path) -> None:
        worker = _read(repository / FILES[0])["services"]["worker"]
        override = _read(repository / FILES[1])["services"]

        (device,) = worker["deploy"]["resources"]["reservations"]["devices"]
        assert device["driver"] == "nvidia"
        assert {"gpu", "utility"} <= set(device["capabilities"])  # utility: the supervisor asks nvidia-smi
        assert not {"count", "device_ids"} & set(device)
        assert override["worker"] == {"profiles": ["gpu"]}
        assert "deploy" not in override["worker-cpu"]
        for key in ("volumes", "depends_on"):
            assert worker[key] == override["worker-cpu"][key]


class TestSettings:
    def test_every_variable_is_one_that_its_process_reads(self, services: dict[str, Service]) -> None:
        models: dict[str, type[HomeSettings]] = {
            "api": ApiSettings,
            "searcher": SearcherSettings,
            "worker": WorkerSettings,
        }
        models["worker-cpu"] = WorkerSettings
        for name, model in models.items():
            known = {f"NASDET_{field.upper()}" for field in model.model_fields}
            known |= S3_VARIABLES if name == "api" else set()
            assert set(services[name]["environment"]) <= known, name

    def test_no_secret_is_a_variable(self, services: dict[str, Service]) -> None:
        for name, service in services.items():
            for key, value in service.get("environment", {}).items():
                if any(word in key for word in ("PASSWORD", "TOKEN")):
                    assert key.endswith("_FILE"), (name, key)
                    assert value == f"/run/secrets/{value.rpartition('/')[2]}", (name, key)
                    assert value.rpartition("/")[2] in service["secrets"], (name, key)

    def test_every_variable_of_the_files_is_explained_in_them_or_in_the_manual(self, repository: Path) -> None:
        text = {name: (repository / name).read_text(encoding="utf-8") for name in FILES}
        used = {found for body in text.values() for found in re.findall(r"\$\{(\w+)", body)}
        manual = (repository / "docs" / "operations.md").read_text(encoding="utf-8")

        assert {name for name in used if f"`{name}`" not in manual} == set()


class TestFilesForBothComposes:
    """docker-compose 1.29 and `docker compose` v2 read the same files."""

    @pytest.mark.parametrize("name", FILES)
    def test_nothing_that_only_one_of_them_knows(self, repository: Path, name: str) -> None:
        text = (repository / name).read_text(encoding="utf-8")

        assert not {"name", "include", "version", "configs"} & set(_read(repository / name))
        assert "!reset" not in text
        assert "!override" not in text

    def test_what_others_extend_depends_on_nothing(self, repository: Path) -> None:
        """1.29 refuses that; and a path there would be relative to another folder."""
        worker = _read(repository / FILES[2])["services"]["worker"]

        assert not {"depends_on", "volumes", "links"} & set(worker)


class TestImages:
    @pytest.mark.parametrize(
        ("name", "extras"), [("api", "api searcher client server s3"), ("worker", "worker client server")]
    )
    def test_dockerfile(self, repository: Path, name: str, extras: str) -> None:
        text = (repository / "deploy" / f"{name}.Dockerfile").read_text(encoding="utf-8")

        assert f"requirements.py {extras} >" in text
        assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) == {"python:3.11-slim-bookworm", "packages"}
        assert "-c constraints.txt -r requirements.txt" in text
        assert text.rstrip().splitlines()[-2] == "USER 10001:10001"
        assert text.index("COPY --from=packages /opt/nasdet") < text.index("COPY --from=code")

    def test_the_api_image_asks_for_no_torch(self, repository: Path) -> None:
        script = runpy.run_path(str(repository / "deploy" / "requirements.py"))
        project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]

        api = script["requirements"](project, ["api", "searcher", "client", "server", "s3"])
        worker = script["requirements"](project, ["worker", "client", "server"])

        names = {re.split(r"[\[<>=]", line)[0] for line in api}
        assert {"fastapi", "sqlalchemy", "psycopg", "celery", "s3fs", "typer"} <= names
        assert not {"torch", "torchvision", "pycocotools"} & names
        assert any(line.startswith("torch>=") for line in worker)

    def test_an_extra_of_extras(self, repository: Path) -> None:
        script = runpy.run_path(str(repository / "deploy" / "requirements.py"))
        project = {"dependencies": ["a"], "optional-dependencies": {"x": ["b>=1"], "y": ["nasdet[x]", "c"]}}

        assert script["requirements"](project, ["y"]) == ["a", "b>=1", "c"]

    def test_the_build_context_holds_no_secret_and_no_data(self, repository: Path) -> None:
        lines = (repository / ".dockerignore").read_text(encoding="utf-8").split("\n")
        patterns = [line for line in lines if line and not line.startswith("#")]

        assert patterns[0] == "*"
        let_in = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
        for name in ("deploy/secrets/operator_token", "data/cells/1.png", ".venv/bin/python", ".env"):
            assert not any(fnmatch.fnmatch(name, f"{pattern}*") for pattern in let_in), name
        for name in let_in:
            assert (repository / name).exists(), name


class TestSecrets:
    def _make(self, repository: Path, folder: Path) -> dict[str, str]:
        environment = {**os.environ, "NASDET_SECRETS": str(folder)}
        subprocess.run(
            ["deploy/compose.sh", "secrets"], cwd=repository, env=environment, check=True, capture_output=True
        )
        return {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}

    def test_made_once_and_closed_to_others_on_this_machine(self, repository: Path, tmp_path: Path) -> None:
        folder = tmp_path / "secrets"

        first = self._make(repository, folder)

        assert first.pop(S3_KEYS) == ""
        assert sorted(first) == sorted(SECRETS)
        assert len(set(first.values())) == len(SECRETS)
        assert all(len(secret.strip()) >= 43 for secret in first.values())  # 256 bits
        assert all(re.fullmatch(r"[A-Za-z0-9_-]+\n", secret) for secret in first.values())
        assert folder.stat().st_mode & 0o777 == 0o700
        assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o444}
        assert self._make(repository, folder) == {**first, S3_KEYS: ""}

    def test_keys_of_an_object_store_stay_as_they_were_written(self, repository: Path, tmp_path: Path) -> None:
        keys = tmp_path / "secrets" / S3_KEYS
        keys.parent.mkdir()
        keys.write_text("[default]\naws_access_key_id = one\n", encoding="utf-8")
        assert self._make(repository, keys.parent)[S3_KEYS] == "[default]\naws_access_key_id = one\n"

    def test_git_ignores_them(self, repository: Path) -> None:
        if not (repository / ".git").exists():
            pytest.skip(f"{repository} is not a git checkout")
        for name in ("deploy/secrets/operator_token", "data/cells/1.png", ".env"):
            assert subprocess.run(["git", "check-ignore", "-q", name], cwd=repository, check=False).returncode == 0, (
                name
            )


class TestDotEnv:
    """`.env` is read by Compose too: what the two of us might read differently is refused."""

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ('DATA_ROOT="/pictures"', "plain"),
            ("export DATA_ROOT=/pictures", "plain"),
            ("DATA_ROOT=/pictures  # of cells", "plain"),
            ("DATA_ROOT=~/pictures", "plain"),
            ("DATA_ROOT=${HOME}", "plain"),
            ("DATA_ROOT=/pictures\r", "plain"),
            ("DATA_ROOT=pictures", "write ./pictures"),
            ("DATA_ROOT=./pictures", None),
            ("#DATA_ROOT=pictures", None),
        ],
    )
    def test_a_data_root_means_the_same_to_compose_and_to_us(
        self, repository: Path, tmp_path: Path, line: str, said: str | None
    ) -> None:
        (tmp_path / "pictures").mkdir()
        (tmp_path / ".env").write_text(line + "\n", encoding="utf-8", newline="")
        script = (repository / "deploy" / "compose.sh").read_text(encoding="utf-8")
        functions = re.sub(r'^cd "\$.*$', "", script.partition("\ncase ")[0], flags=re.MULTILINE)
        environment = {key: value for key, value in os.environ.items() if key != "DATA_ROOT"}
        done = subprocess.run(
            ["bash", "-c", f"{functions}\ncheck_data_root"],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, said is None or said in done.stderr) == (0 if said is None else 2, True), done.stderr
