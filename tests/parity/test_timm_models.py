"""A dozen of timm's architectures of those in `benchmarks/conversion/timm_models.py`: exact, or refused."""

from pathlib import Path

import pytest

from benchmarks.conversion.timm_models import WAYS, verdicts

ALONE, SAID, FOLDER = WAYS

# Tensors alone, these with what is asked for, timm's folder.
CASES: dict[str, tuple[str, str, str]] = {
    "test_vit": ("announced", "exact", "exact"),
    "test_vit4": ("refused", "exact", "exact"),
    "vit_tiny_patch16_224": ("announced", "exact", "exact"),
    "vit_base_patch16_gap_224": ("announced", "exact", "exact"),
    "eva_large_patch14_196": ("announced", "exact", "exact"),
    "vit_pwee_patch16_reg1_gap_256": ("announced", "exact", "exact"),
    "vit_medium_patch16_rope_reg1_gap_256": ("announced", "exact", "exact"),
    "vit_mediumd_patch16_rope_reg1_gap_256": ("announced", "exact", "exact"),
    "vit_small_patch16_dinov3_qkvb": ("announced", "exact", "exact"),
    "vit_small_patch16_lingbot": ("announced", "exact", "exact"),
    "eva02_base_patch16_clip_224": ("announced", "exact", "exact"),
    "beit3_base_patch16_224": ("announced", "exact", "exact"),
    "vit_base_patch16_rpn_224": ("refused", "refused", "refused"),
    "test_vit3": ("announced", "announced", "exact"),
    "vit_pe_core_tiny_patch16_384": ("refused", "refused", "exact"),
    "vit_pe_spatial_tiny_patch16_512": ("refused", "refused", "refused"),
    "vit_small_patch16_rope_224": ("refused", "refused", "refused"),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_read_exactly_or_what_was_assumed_is_said_or_it_is_refused(name: str, tmp_path: Path) -> None:
    found = {way: verdict.verdict for way, verdict in verdicts(name, tmp_path).items()}
    assert found == dict(zip(WAYS, CASES[name], strict=True))
