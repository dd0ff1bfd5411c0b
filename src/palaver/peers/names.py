"""Names of sites and operators, and hosts: what those of certificates and of key expressions can be.

A name is a chunk of Zenoh key expressions, so it has no sign that they read. ``operator.`` begins the names of those
who may read the state of a collective and take no other part.
"""

import re
from collections.abc import Iterable
from ipaddress import ip_address

from palaver.arguments import shown
from palaver.errors import PalaverError

OPERATOR = "operator."
"""How an operator's name begins, and no site's."""
HOSTS = 32
"""Hosts of a certificate at most."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DNS = re.compile(
    r"(?=.{1,253}\Z)([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
)


def is_operator(name: str) -> bool:
    """Whether a name is an operator's."""
    return name.startswith(OPERATOR)


def check_name(name: str) -> str:
    """The name of a site or operator.

    >>> check_name("clinic-3"), check_name("operator.anna")
    ('clinic-3', 'operator.anna')

    Args:
        name: what was given.

    Returns:
        The name.

    Raises:
        PalaverError: it cannot be one.

    """
    own = name.removeprefix(OPERATOR)
    if not (_NAME.fullmatch(own) and len(name) <= 64):
        signs = "letters, digits, '-', '_' and '.', beginning with a letter or digit"
        raise PalaverError(f"the name {shown(name)} cannot be one: give at most 64 {signs}")
    if own.lower().startswith(OPERATOR) or name.lower() == "authority":
        raise PalaverError(
            f"the name {name!r} is mistaken for another: give one that is not 'authority' or an {OPERATOR}"
        )
    return name


def check_hosts(hosts: Iterable[str]) -> tuple[str, ...]:
    """The hosts under which others reach a site.

    >>> check_hosts(["palaver.example.org", "10.0.0.3", "10.0.0.3"])
    ('palaver.example.org', '10.0.0.3')

    Args:
        hosts: DNS names and IP addresses, without ports.

    Returns:
        Each of them once; IP addresses as they are commonly written.

    Raises:
        PalaverError: one is neither, stands for many hosts, or there are too many.

    """
    found = tuple(dict.fromkeys(_host(host) for host in hosts))
    if len(found) > HOSTS:
        raise PalaverError(f"{len(found)} hosts: give at most {HOSTS}")
    return found


def _host(host: str) -> str:
    try:
        address = ip_address(host)
    except ValueError:
        if _DNS.fullmatch(host):
            return host.lower()
    else:
        if not (address.is_unspecified or address.is_multicast or "%" in host):
            return str(address)
    wanted = "a DNS name or IP address under which other sites reach this one, without port or '*'"
    raise PalaverError(f"the host {shown(host)} cannot be one: give {wanted}")
