from pathlib import Path

import numpy as np
import pytest
import torch

from megavit.data.dataset import Sample
from megavit.data.group_column import GroupColumn, read_group_column
from megavit.errors import DataError
from megavit.evaluation.subgroups import MAX_GROUPS, compute_subgroups, select_groups


def answered(right: list[bool]) -> tuple[torch.Tensor, torch.Tensor]:
    """Two classes, all truly the first."""
    shares = torch.tensor([[0.9, 0.1] if one else [0.2, 0.8] for one in right])
    return shares, torch.zeros(len(right), dtype=torch.int64)


def groups_of(right: dict[str, tuple[int, int]]):
    """{group: (right, images)}"""
    values = [name for name, (_, images) in right.items() for _ in range(images)]
    flags = [place < hits for hits, images in right.values() for place in range(images)]
    return compute_subgroups("camera", values, *answered(flags), "classification")


def test_the_worst_group_comes_first_each_with_its_images_and_interval():
    found = groups_of({"north": (90, 100), "": (30, 60), "south": (16, 20)})
    assert [(group.value, group.images) for group in found.groups] == [("", 60), ("south", 20), ("north", 100)]
    assert [group.metric.value for group in found.groups if group.metric] == pytest.approx([0.5, 0.8, 0.9])
    assert all(group.metric and group.metric.low < group.metric.value < group.metric.high for group in found.groups)
    assert (found.column, found.metric) == ("camera", "accuracy")


def test_groups_far_apart_differ_and_groups_alike_do_not():
    far, near = groups_of({"a": (95, 100), "b": (50, 100)}), groups_of({"a": (90, 100), "b": (88, 100), "c": (9, 10)})
    assert far.significant and far.p_value < 0.01
    assert not near.significant and near.p_value > 0.2


def test_the_chance_is_near_that_of_the_exact_test():
    from scipy.stats import fisher_exact

    found = groups_of({"a": (28, 40), "b": (36, 40)})
    assert found.p_value == pytest.approx(fisher_exact([[28, 12], [36, 4]]).pvalue, abs=0.02)


def test_under_chance_alone_a_difference_is_seldom_found(monkeypatch):
    monkeypatch.setattr("megavit.evaluation.subgroups._PERMUTATIONS", 200)
    random = np.random.default_rng(0)
    found = 0
    for _ in range(40):
        right = (random.random(60) < 0.7).tolist()
        values = random.choice(["a", "b", "c"], size=60).tolist()
        found += compute_subgroups("x", values, *answered(right), "classification").significant
    assert found <= 6  # of 40 at 5%


def test_scores_and_labels_are_grouped_by_their_own_metric():
    random = torch.Generator().manual_seed(0)
    truth = torch.randn(80, generator=random)
    values = ["near"] * 40 + ["far"] * 40
    said = truth + torch.randn(80, generator=random) * torch.tensor([0.1] * 40 + [2.0] * 40)
    found = compute_subgroups("x", values, said, truth, "regression")
    assert [group.value for group in found.groups] == ["far", "near"]
    assert found.metric == "mean absolute error" and found.significant
    assert found.groups[1].metric and found.groups[1].metric.value == pytest.approx(
        (said - truth)[:40].abs().mean().item()
    )
    present = torch.rand(80, 2, generator=random) < 0.5
    present[40:] = False
    shares = (present * 2.0 + torch.randn(80, 2, generator=random)).sigmoid()
    labels = compute_subgroups("x", values, shares, present, "multilabel")
    assert [(group.value, group.metric is None) for group in labels.groups] == [("near", False), ("far", True)]
    assert labels.metric == "mean average precision"


# where the values come from


def table(folder: Path, rows: int, value=lambda i: f"{i % 2}") -> tuple[GroupColumn, list[Sample]]:
    path = folder / "t.csv"
    path.write_text("path,label,camera\n" + "".join(f"{i}.png,cat,{value(i)}\n" for i in range(rows)))
    samples = [Sample(f"{i}.png", 0, "test", 8, 8, 3, "") for i in range(rows)]
    return read_group_column(path, "camera"), samples


def test_the_values_follow_the_samples_whatever_their_order(tmp_path):
    column, samples = table(tmp_path, 5)
    assert select_groups(column, samples[::-1][1:]) == ["1", "0", "1", "0"]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (lambda i: i, f"{MAX_GROUPS + 1} different values.*ranges"),
        (lambda i: "north", "all 51 evaluated images have 'north'"),
    ],
)
def test_columns_that_make_no_groups_are_refused_with_advice(tmp_path, value, said):
    column, samples = table(tmp_path, MAX_GROUPS + 1, value=value)
    with pytest.raises(DataError, match=said):
        select_groups(column, samples)
