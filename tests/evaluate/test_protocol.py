from __future__ import annotations

import pytest
from pydantic import ValidationError

from lexivox.config_text import validated
from lexivox.errors import ConfigError
from lexivox.evaluate.protocol import (
    PROTOCOLS,
    PUBLISHED,
    RUN_PROTOCOLS,
    DepthProtocol,
    Occ3dProtocol,
    Pop3dProtocol,
    protocol_named,
)
from lexivox.recipes import RECIPES


def test_every_choice_shows_in_a_name():
    recommended = Pop3dProtocol()
    assert (recommended.occupancy, recommended.lidar) == ("pop3d-occupancy/exact", "pop3d-lidar/unique")
    assert recommended.retrieval == "pop3d-retrieval/cosine"
    assert PUBLISHED.occupancy == "pop3d-occupancy/sampled100+clamped"
    assert PUBLISHED.lidar == "pop3d-lidar/dup+clamp"
    assert PUBLISHED.retrieval == "pop3d-retrieval/dot+dup+clamp"
    assert PROTOCOLS["published_baselines"].lidar == "pop3d-lidar/dup+noise+clamp"
    names = {name: (p.occupancy, p.lidar, p.retrieval, p.headlines) for name, p in PROTOCOLS.items()}
    assert len(set(names.values())) == len(PROTOCOLS)


def test_headlines_say_which_of_two_readings_they_are():
    assert Pop3dProtocol().headlines[0] == ("iou_occupied", "pop3d-occupancy/exact", "iou_occupied")
    assert Pop3dProtocol().headlines[1] == ("miou", "pop3d-occupancy/exact", "miou_present")
    assert PUBLISHED.headlines[1] == ("miou", "pop3d-occupancy/sampled100+clamped", "miou")
    assert Pop3dProtocol(agnostic="miou_2class").headlines[0][0] == "miou_2class"


def test_protocols_have_names():
    assert [protocol_named(name).name for name in PROTOCOLS] == list(PROTOCOLS)
    assert Pop3dProtocol(rays="sampled100").name == "custom"
    with pytest.raises(ConfigError, match=r"protocol must be one of recommended, published, .*; got 'paper'"):
        protocol_named("paper")
    assert [protocol_named(name).name for name in RUN_PROTOCOLS] == list(RUN_PROTOCOLS)


def test_a_config_holds_a_protocol_and_refuses_a_wrong_one():
    config = RECIPES["pop3d_tiny"]()
    changed = config.changed(protocol=PUBLISHED)
    assert validated(changed.model_dump(mode="json")).protocol == PUBLISHED
    assert "similarity: cosine" in config.to_yaml()
    for other in (Occ3dProtocol(path_s=2.0), DepthProtocol()):
        assert validated(config.changed(protocol=other).model_dump(mode="json")).protocol == other
    old = config.model_dump(mode="json")
    del old["protocol"]["kind"]  # a run from before there were several
    assert validated(old) == config
    raw = config.model_dump(mode="json")
    raw["protocol"]["rays"] = "all"
    with pytest.raises(ConfigError, match=r"option 'protocol\.rays' must be valid; got 'all'"):
        validated(raw)
    with pytest.raises((ConfigError, ValidationError)):
        validated({**raw, "protocol": {"rays": "exact", "points": 3}})
