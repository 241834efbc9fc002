import json

import pytest

from megavit.errors import BundleError
from megavit.train.history import EpochRecord

RECORD = EpochRecord(epoch=3, step=33, seconds=2.5, train_loss=0.9, val_loss=0.4, val_metric=0.875, learning_rate=5e-4)


def test_a_record_survives_json():
    assert EpochRecord.from_dict(json.loads(json.dumps(RECORD.to_dict()))) == RECORD


@pytest.mark.parametrize(("key", "value"), [("epoch", "three"), ("val_loss", None), ("step", 1.5)])
def test_a_stored_record_of_another_kind_is_refused_by_name(key, value):
    with pytest.raises(BundleError, match=key):
        EpochRecord.from_dict({**RECORD.to_dict(), key: value})


def test_a_record_of_an_earlier_version_knows_of_no_logits():
    stored = RECORD.to_dict()
    del stored["attention_logit"], stored["head_logit"]
    assert EpochRecord.from_dict(stored) == RECORD and RECORD.attention_logit is None


def test_a_stored_record_without_a_part_is_refused_by_name():
    stored = RECORD.to_dict()
    del stored["val_metric"]
    with pytest.raises(BundleError, match="val_metric"):
        EpochRecord.from_dict(stored)
