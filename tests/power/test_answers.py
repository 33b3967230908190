from __future__ import annotations

from itertools import product

import pytest

from cuckoo_zfsiscsi.power.answers import Answerer, Verdict, Whose, judge

EVERY = [Answerer(*one) for one in product(Whose, (False, True), (0, 1, 2))]


@pytest.mark.parametrize("answerer", EVERY, ids=str)
def test_every_answer(answerer: Answerer) -> None:
    verdict = judge(answerer)
    if answerer.whose is Whose.OWN:  # also if it answers for others, as malware on it may
        assert verdict is Verdict.LIVES
    elif answerer.whose is Whose.SIBLING and not answerer.sibling_is_off:
        assert verdict is Verdict.IMPOSTOR
    elif answerer.whose is Whose.OTHER and answerer.others:
        assert verdict is Verdict.PROXY
    else:  # nothing explains it
        assert verdict is Verdict.LIVES


def test_what_is_not_known_counts() -> None:
    assert judge(Answerer(Whose.OTHER)) is Verdict.LIVES
    assert judge(Answerer(Whose.SIBLING, sibling_is_off=True)) is Verdict.LIVES
