"""Where the API may listen, and under which names it may be reached: closed unless somebody opened it on purpose."""

from __future__ import annotations

import ipaddress
import re
import socket

from services.common.errors import SettingError
from services.common.settings import ApiSettings
from services.common.tokens import read_metrics_token, read_operator_token

LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})
_NAME = re.compile(r"[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9_])?\Z")


def allowed_hosts(settings: ApiSettings) -> frozenset[str]:
    """Names that a Host header may have: this machine's, those of the setting, and the address it listens on.

    Raises SettingError for a setting that holds something else than names, `*` above all.
    """
    named = {_checked(part.strip()) for part in settings.allowed_hosts.split(",") if part.strip()}
    host = bound_address(settings)
    return LOOPBACK_NAMES | named | (set() if _is_everywhere(host) else {host.lower()})


def _checked(name: str) -> str:
    bare = name.lower().removeprefix("[").removesuffix("]")
    if _is_address(bare) or _NAME.match(bare):
        return bare
    raise SettingError(
        f"expected names or addresses without port in NASDET_ALLOWED_HOSTS (--allow-host), such as gpu-node.example, "
        f"but got {name!r}; name each host under which people reach the API"
    )


def check_binding(settings: ApiSettings) -> None:
    """Refuse, with a SettingError, to listen to other machines without a token made before and a name to be reached.

    A token made at this start would be one that its operator has not seen yet.
    """
    for_others = settings.metrics_port is not None and not is_loopback(settings.metrics_host)
    if for_others and read_metrics_token(settings) is None:
        raise SettingError(
            f"serving metrics on {settings.metrics_host} lets other machines in, and no file with a token for them is "
            "named in NASDET_METRICS_TOKEN_FILE; name one (`openssl rand -hex 32` makes a token), or serve them on "
            "127.0.0.1 (NASDET_METRICS_HOST)"
        )
    names = allowed_hosts(settings)
    host = bound_address(settings)
    if is_loopback(host):
        return
    if read_operator_token(settings) is None:
        raise SettingError(
            f"listening on {host} lets other machines in, and there is no token yet in {settings.operator_token_path}; "
            "start once on 127.0.0.1 (the default), which makes one, or name a file that holds one in "
            "NASDET_OPERATOR_TOKEN_FILE"
        )
    if names <= LOOPBACK_NAMES:
        raise SettingError(
            f"nobody could reach the API on {host}: no name is allowed that a Host header may have; "
            "name this machine as others do with `nasdet up --allow-host NAME` or in NASDET_ALLOWED_HOSTS"
        )


def bound_address(settings: ApiSettings) -> str:
    """The address that is listened on: of the inherited socket where there is one."""
    if settings.fd is None:
        return settings.host
    try:
        listener = socket.socket(fileno=settings.fd)
    except OSError as error:
        raise SettingError(
            f"expected an open socket with the number {settings.fd} (--fd), but it cannot be used "
            f"({error.strerror}); start the API with --host and --port instead"
        ) from error
    try:
        return str(listener.getsockname()[0]) if listener.family in (socket.AF_INET, socket.AF_INET6) else "localhost"
    finally:
        listener.detach()  # the descriptor stays open


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach it."""
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def _is_everywhere(host: str) -> bool:
    return not host or (_is_address(host) and ipaddress.ip_address(host).is_unspecified)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
