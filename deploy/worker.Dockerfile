# Worker: torch with CUDA, which also runs on CPUs. Built from the repository's root by docker-compose.yml.
FROM python:3.11-slim-bookworm AS requirements
WORKDIR /build
COPY pyproject.toml deploy/requirements.py ./
RUN python requirements.py worker client server >requirements.txt

# The packages, by exact version. This layer changes only when their list or a version does.
FROM python:3.11-slim-bookworm AS packages
# As on any machine, pip may be told of another index; these are used while building and kept in no image.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_TRUSTED_HOST
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
COPY constraints.txt ./
COPY --from=requirements /build/requirements.txt ./
RUN python -m venv --without-pip /opt/nasdet \
 && pip --python /opt/nasdet/bin/python install --no-compile --only-binary :all: -c constraints.txt -r requirements.txt

FROM packages AS code
ENV PIP_CONSTRAINT=/build/constraints.txt PIP_BUILD_CONSTRAINT=/build/constraints.txt
COPY pyproject.toml README.md LICENSE ./
COPY nasdet_core nasdet_core
COPY services services
COPY nasdet_client nasdet_client
RUN pip wheel --no-deps --wheel-dir /wheels . \
 && pip --python /opt/nasdet/bin/python install --no-compile --no-deps --prefix /code /wheels/nasdet-*.whl

FROM python:3.11-slim-bookworm
RUN groupadd --gid 10001 nasdet \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/nasdet --shell /usr/sbin/nologin nasdet \
 && install -d -o 10001 -g 10001 -m 0700 /var/lib/nasdet
COPY --from=packages /opt/nasdet /opt/nasdet
COPY --from=code /code /opt/nasdet
# The root file system is read-only when it runs: nothing is written beside the code.
ENV PATH=/opt/nasdet/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 NASDET_HOME=/var/lib/nasdet
WORKDIR /var/lib/nasdet
USER 10001:10001
CMD ["python", "-m", "services.worker"]
