from __future__ import annotations

import pytest

from cuckoo_zfsiscsi.config.mistakes import Mistake, looks_secret, shown
from tests.config.sample import SECRET


@pytest.mark.parametrize(
    "key",
    ["password", "PASSWORD", "power_passwd", "passwrd", "pasword", "pwd", "token", "tokn",
     "api_key", "client_secret", "secrt", "bmc_credentials", "token_file"],
)  # fmt: skip
def test_secret_keys(key: str) -> None:
    assert looks_secret(key)
    assert shown(key, SECRET) == "***"
    assert SECRET not in repr(Mistake("a", key, SECRET, "x", "y"))


@pytest.mark.parametrize("key", ["mac", "ip", "power", "platform", "ready", "path", "iqn", "tags"])
def test_other_keys(key: str) -> None:
    assert not looks_secret(key)
    assert shown(key, "text") == "text"


@pytest.mark.parametrize(
    "value",
    [
        f"ipmi://admin:{SECRET}@h", f"ipmi://admin:{SECRET}/@:x@h", f"ipmi:admin:{SECRET}@h",
        f"admin:{SECRET}@h", f"ipmi://h?password={SECRET}&a=1", f"ipmi://h?a=1&pwd={SECRET}",
        f"x\npassword = {SECRET}", f"x # {SECRET}", f"x ;{SECRET}",
    ],
)  # fmt: skip
def test_secrets_inside_values(value: str) -> None:
    assert SECRET not in shown("power", value)
