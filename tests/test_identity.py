"""What a result depends on besides code: options without those of the runtime."""

from __future__ import annotations

from lamp_exp.experiment.identity import essence


def test_the_essence_leaves_out_the_runtime():
    assert essence("retriever", {"name": "x/y", "device": "cpu", "b": 1}) == {"name": "x/y", "b": 1}
    assert essence("task", {"device": "cpu"}) == {"device": "cpu"}
