#!/usr/bin/env bash
# `make up` and `make down`: server mode on this machine by docker compose.
#   compose.sh up        make missing secrets, build, start, wait until everything is healthy, say where it is
#   compose.sh down      stop and remove the containers; volumes, data and secrets stay
#   compose.sh secrets   only make missing secrets
#   compose.sh ...       anything else is handed to docker compose, with the files and the project of `up`:
#                        compose.sh ps, compose.sh exec api nasdet doctor
# Settings are those of docker-compose.yml, from the environment or the file .env.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

WAIT_SECONDS=240
export COMPOSE_PROJECT_NAME=${COMPOSE_PROJECT_NAME:-nasdet}
export COMPOSE_HTTP_TIMEOUT=${COMPOSE_HTTP_TIMEOUT:-600}  # docker-compose 1.29: seconds without a word from a build

say() { printf '%s\n' "$*"; }
fail() { printf '%s\n' "$*" >&2; exit 2; }

# setting NAME DEFAULT: from the environment, else from .env. Compose reads more ways of writing a value, and the two
# of its versions read them differently: what is not plain is refused, so that all of us mean the same.
setting() {
  local value=${!1:-}
  if [[ -z $value && -f .env ]]; then
    if grep -qE "^[[:space:]]*export[[:space:]]+$1=|^[[:space:]]+$1=|^$1=.*([\"'~\$[:space:]]|[[:space:]]#)" .env; then
      fail "expected a line such as $1=/plain/value in .env (no export, quotes, spaces, ~, \$ or comment), but it has: \
$(grep -E "$1=" .env | tail -n 1)"
    fi
    value=$(sed -n "s/^$1=//p" .env | tail -n 1)
  fi
  printf '%s' "${value:-$2}"
}

choose_compose() {
  if docker compose version >/dev/null 2>&1; then compose=(docker compose)
  elif command -v docker-compose >/dev/null; then compose=(docker-compose)
  else fail "expected 'docker compose' or 'docker-compose' on the PATH, but there is neither; install Docker's Compose"
  fi
  docker info >/dev/null 2>&1 || fail "the Docker engine does not answer; start it, or ask to be let into the group docker"
}

choose_files() {
  compose+=(-f docker-compose.yml)
  if nvidia-smi -L 2>/dev/null | grep -q '^GPU '; then
    say "GPUs: $(nvidia-smi -L | grep -c '^GPU ') (nvidia-smi); the worker gets them all" >&2
  else
    say "no GPU here (nvidia-smi finds none): using docker-compose.cpu.yml" >&2
    compose+=(-f docker-compose.cpu.yml)
  fi
}

# Containers read secrets as uid 10001, whoever you are: the files can be read, the folder keeps others on this
# machine out.
make_secrets() {
  local folder name secret
  folder=$(setting NASDET_SECRETS ./deploy/secrets)
  mkdir -p -m 0700 "$folder"
  for name in postgres_password redis_password operator_token worker_token metrics_token; do
    [[ -s $folder/$name ]] && continue
    [[ ! -d $folder/$name ]] || fail "expected a secret in the file $folder/$name, but it is a folder; remove it"
    secret=$(head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=\n')  # 256 bits
    [[ $name != *_token ]] || secret=nasdet_$secret
    printf '%s\n' "$secret" >"$folder/.$name"
    chmod 0444 "$folder/.$name"
    mv "$folder/.$name" "$folder/$name"
    say "made $folder/$name"
  done
  # Keys of an object store, as Amazon's tools write them; empty where artifacts are kept in the volume.
  [[ -e $folder/s3_credentials ]] || install -m 0444 /dev/null "$folder/s3_credentials"
}

check_data_root() {
  local folder
  folder=$(setting DATA_ROOT '')
  if [[ -z $folder ]]; then
    mkdir -p data
  elif [[ $folder != /* && $folder != ./* && $folder != ../* ]]; then
    fail "expected a path in DATA_ROOT, but compose takes $folder for the name of a volume; write ./$folder"
  elif [[ ! -d $folder ]]; then
    fail "expected a folder with data sets, but DATA_ROOT=$folder is none; make it or name another one"
  fi
}

# health_of CONTAINER: healthy, starting, unhealthy, or what the container does where it is not running
health_of() {
  docker inspect --format '{{if eq .State.Status "running"}}{{.State.Health.Status}}{{else}}{{.State.Status}}{{end}}' "$1"
}

wait_until_healthy() {
  local containers container waiting
  say "waiting until every service is healthy"
  for ((second = 0; second < WAIT_SECONDS; second += 2)); do
    waiting=()
    mapfile -t containers < <("${compose[@]}" ps -q)
    for container in "${containers[@]}"; do
      [[ $(health_of "$container") == healthy ]] || waiting+=("$container")
    done
    ((${#containers[@]} > 0 && ${#waiting[@]} == 0)) && return
    sleep 2
  done
  for container in "${waiting[@]}"; do
    say "$(docker inspect --format '{{.Name}}' "$container") is $(health_of "$container"); its last lines:" >&2
    docker logs --tail 20 "$container" >&2
  done
  fail "not everything was healthy within $WAIT_SECONDS s; see above, and: deploy/compose.sh logs"
}

up() {
  choose_compose
  choose_files
  make_secrets
  check_data_root
  "${compose[@]}" build
  "${compose[@]}" up -d --remove-orphans
  wait_until_healthy
  say "nasdet is up: http://127.0.0.1:$(setting NASDET_PORT 8765)"
  say "token: $(setting NASDET_SECRETS ./deploy/secrets)/operator_token; data sets: the folders in $(setting DATA_ROOT ./data)"
  say "check it: deploy/compose.sh exec api nasdet doctor; stop it: make down"
}

down() {
  choose_compose
  compose+=(-f docker-compose.yml)
  # with the files it was started with: docker-compose 1.29 kills what it finds in no file, and a worker that is
  # killed cannot give its job back
  if [[ -n $(docker ps -aq --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME" \
    --filter label=com.docker.compose.service=worker-cpu) ]]; then
    compose+=(-f docker-compose.cpu.yml)
  fi
  "${compose[@]}" down --remove-orphans
  say "stopped; the volumes, $(setting DATA_ROOT ./data) and $(setting NASDET_SECRETS ./deploy/secrets) stay"
}

case ${1:-} in
  up) up ;;
  down) down ;;
  secrets) make_secrets ;;
  '' | -h | --help) sed -n '2,8p' "${BASH_SOURCE[0]}"; exit 2 ;;
  *) choose_compose; choose_files; exec "${compose[@]}" "$@" ;;
esac
