"""The peers are built with our sizes: they answer in our shape, and have our parameters, give or take a habit."""

from dataclasses import replace

import pytest
import torch

from megavit.bench.peers import PEERS, fits_peers, get_installed_peers
from megavit.bench.run import EXAMPLE, get_config
from megavit.bench.training import get_builders, make_step
from megavit.config.presets import preset
from megavit.config.vit import PLAIN_VIT, ViTConfig
from megavit.errors import ConfigError
from megavit.model.vit import MegaVit

SMALL = ViTConfig(
    image_size=32, patch_size=8, num_classes=5, dim=128, depth=2, heads=2, mlp_dim=256, design=PLAIN_VIT
)  # fmt: skip


@pytest.mark.parametrize("name", sorted(set(PEERS) - {"zetascale"}))
def test_a_peer_has_our_sizes(name: str) -> None:
    peer = get_installed_peers(SMALL)[name](SMALL).eval()
    with torch.no_grad():
        assert peer(torch.randn(3, 3, 32, 32)).shape == (3, 5)
    theirs, ours = (sum(p.numel() for p in model.parameters()) for model in (peer, MegaVit.from_config(SMALL)))
    assert theirs == pytest.approx(ours, rel=0.01)


def test_zetascale_is_told_from_our_own_module_of_that_name() -> None:
    assert "zetascale" not in get_installed_peers(SMALL)


def test_what_peers_have_no_model_for() -> None:
    assert fits_peers(SMALL)
    assert not fits_peers(replace(SMALL, pool="mean"))
    assert not fits_peers(replace(SMALL, dim_head=32))
    assert not fits_peers(replace(SMALL, image_size=(32, 16)))
    assert not fits_peers(replace(SMALL, num_classes=0))


def test_sizes_have_names() -> None:
    assert get_config("S") == preset("S")
    assert (get_config(EXAMPLE).image_hw, get_config(EXAMPLE).dim) == ((256, 256), 512)
    with pytest.raises(ConfigError, match="huge"):
        get_config("huge")


@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16))
def test_a_step_trains(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    images, labels = torch.randn(4, 3, 32, 32), torch.arange(4)
    for build in get_builders(SMALL).values():
        model = build(SMALL)
        before = [p.detach().clone() for p in model.parameters()]
        make_step(model, images, labels, dtype)()
        assert any(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
