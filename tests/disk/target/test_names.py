from __future__ import annotations

from dataclasses import replace

import pytest

from cuckoo_zfsiscsi.disk.target import Credentials
from cuckoo_zfsiscsi.disk.target.names import check_names
from cuckoo_zfsiscsi.errors import TargetError

WHO = Credentials("iqn.2026-01.org.example:pc1.g1", "pc1.g1", "aB34567890123456")
MUTUAL = replace(WHO, reverse_user="pc1.g1.target", reverse_secret="cD34567890123456")


def test_names_that_iscsi_knows() -> None:
    check_names("iqn.2026-01.org.example:pc1", WHO)
    check_names("iqn.2026-01.org.example:pc1", MUTUAL)


KEYS = ("initiator", "user", "secret", "reverse_user", "reverse_secret")
CASES = [(key, value) for key in KEYS for value in ("", "a b", "a,b", "a\n", "ä")]
CASES.remove(("reverse_user", ""))  # that is CHAP one way


@pytest.mark.parametrize(("key", "value"), CASES)
def test_names_that_it_does_not(key: str, value: str) -> None:
    with pytest.raises(TargetError, match="can't be used with iSCSI") as caught:
        check_names("iqn.2026-01.org.example:pc1", replace(MUTUAL, **{key: value}))
    assert (repr(value) in str(caught.value)) == ("secret" not in key)
