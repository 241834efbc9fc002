import pytest
import torch

from megavit.config.preprocessing import Preprocessing
from megavit.data.augment import normalize
from megavit.predict.forward import compute_embeddings
from tests.helpers.bundles import make_model


@pytest.mark.parametrize(("pool", "width"), [("mean", 8), ("cls_mean", 16)])
def test_the_head_of_the_embeddings_is_the_models_answer_and_its_mode_stays(pool, width):
    model = make_model(dropout=0.5, pool=pool).train()
    size = Preprocessing(height=8, width=8, channels=3)
    pictures = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = torch.cat(list(compute_embeddings(model, pictures.split(2), size)))
    assert model.training and found.shape == (5, width) and not found.requires_grad
    with torch.no_grad():
        torch.testing.assert_close(model.mlp_head(found), model.eval()(normalize(pictures, size)))
